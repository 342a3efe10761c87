"""Directories of sweeps: which trials they have, what each was given, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mgie_lit.report.read import EVALUATION_FILES, RUN_FILES, Evaluation, TrainingRun, read_directories, read_overrides
from mgie_lit.report.tables import Cell, Table, TableRow, metric_heading, score_cell
from mgie_lit.report.verdict import MISSING
from mgie_lit.trials import FAILED, FINISHED, KILLED, RUNNING, SWEEP_FILE, TRIAL_FILE, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

MULTIRUN_FILE = "multirun.yaml"
DONE = "done"
DEFAULT_METRIC = "val/loss"


@dataclass(frozen=True)
class Trial:
    """One numbered directory of a sweep."""

    number: int
    overrides: tuple[str, ...]  # those that are not the same in all trials
    part: TrainingRun | Evaluation | None  # None where it left nothing to read
    state: str  # DONE, "failed", "killed", "running", or "stopped at step <n> of <m>"
    record: TrialRecord | None = None  # None where nothing was recorded

    @property
    def given(self) -> str:
        """Its own overrides as text."""
        return " ".join(self.overrides) or ("none of its own" if self.part or self.record else "not recorded")

    def optimized(self) -> tuple[str, float | None]:
        """Name and last value of what the sweep optimizes; None where a trial has none."""
        if self.record is not None and self.record.is_over:
            return self.record.metric or DEFAULT_METRIC, self.record.value
        if not isinstance(self.part, TrainingRun):
            return DEFAULT_METRIC, None
        config = _yaml(self.part.origin.config)
        name = str(config.get("optimized_metric") or DEFAULT_METRIC)
        if name not in self.part.curves:
            return name, None
        values = self.part.curves[name].dropna()
        return name, float(values.iloc[-1]) if len(values) else None


@dataclass(frozen=True)
class Sweep:
    """A directory that ``mgie train -m`` or ``mgie eval -m`` made."""

    path: Path
    trials: list[Trial]
    lower_is_better: bool  # as the sweeper was told


def is_sweep(path: Path) -> bool:
    """Whether a directory holds numbered trials and is itself neither run nor evaluation."""
    own = any(all((path / name).is_file() for name in names) for names in (RUN_FILES, EVALUATION_FILES))
    return not own and path.is_dir() and (_is_marked(path) or bool(_trial_dirs(path)))


def expand(directories: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Replace sweeps by their trials.

    Args:
        directories: Runs, evaluations, sweeps, and folders of sweeps (``runs/multirun``).

    Returns:
        Directories to read, and those of sweeps.
    """
    plain: list[Path] = []
    sweeps: list[Path] = []
    for path in directories:
        inner = [path] if is_sweep(path) else _inner_sweeps(path)
        sweeps += inner
        plain += [trial for sweep in inner for trial in _trial_dirs(sweep) if _is_complete(trial)] if inner else [path]
    return plain, sweeps


def read_sweep(path: Path, parts: Sequence[TrainingRun | Evaluation]) -> Sweep:
    """All trials of a sweep, failed ones too.

    Args:
        path: A directory for which :func:`is_sweep` holds.
        parts: What was read from its complete trials, among others.

    Returns:
        Trials by their number.
    """
    known = {part.path.resolve(): part for part in parts}
    folders = _trial_dirs(path)
    records = {folder: TrialRecord.read(folder) for folder in folders}
    given = {folder: _overrides(folder, records[folder]) for folder in folders}
    recorded = [set(overrides) for overrides in given.values() if overrides]
    common = set.intersection(*recorded) if len(recorded) > 1 else set()
    trials = []
    for folder in folders:
        part = known.get(folder.resolve())
        own = tuple(text for text in given[folder] if text not in common and not text.startswith("paths.run_dir="))
        record = records[folder]
        number = int(folder.name) if record is None else record.number
        trials.append(Trial(number, own, part, _state(part, record), record))
    return Sweep(path, sorted(trials, key=lambda trial: trial.number), _direction(path) != "maximize")


def trial_table(sweep: Sweep) -> Table:
    """A row a trial with its own overrides, its state and what came out; failed ones marked, and the best named."""
    evaluations = [trial.part for trial in sweep.trials if isinstance(trial.part, Evaluation)]
    metrics = list(dict.fromkeys(name for one in evaluations for name in one.metric_names))
    shows_optimized = len(evaluations) < len([trial for trial in sweep.trials if trial.part]) or not evaluations
    best = best_trial(sweep) if shows_optimized else None
    rows, records = [], []
    for trial in sweep.trials:
        summary = trial.part.section("metrics") if isinstance(trial.part, Evaluation) else {}
        name, value = trial.optimized()
        state = Cell(trial.state, interval=trial.record.error or "" if trial.record else "")
        number = Cell(MISSING if value is None else f"{value:.6g}", mark="best" if trial is best else "")
        cells = [Cell(trial.given), state, *([number] if shows_optimized else [])]
        cells += [score_cell(metric, summary.get(metric)) for metric in metrics]
        rows.append(TableRow(str(trial.number), cells, "" if trial.state == DONE else "failed"))
        means = {metric: (summary.get(metric) or {}).get("mean") for metric in metrics}
        numbers = {"optimized_metric": name, "value": value} if shows_optimized else {}
        records.append({"trial": trial.number, "overrides": trial.given, "state": trial.state, **numbers, **means})
    optimized = [f"{_optimized_name(sweep)} {'↓' if sweep.lower_is_better else '↑'}"] if shows_optimized else []
    headings = [metric_heading(name, next(one for one in evaluations if name in one.metric_names)) for name in metrics]
    columns = ["trial", "overrides", "state", *optimized, *headings]
    return Table(f"Sweep {sweep.path}", columns, rows, records, _note(sweep, best))


def best_trial(sweep: Sweep) -> Trial | None:
    """The finished trial with the best value, the first of equals; None where none has a value."""
    values = [
        (value, trial) for trial in sweep.trials if trial.state == DONE and (value := trial.optimized()[1]) is not None
    ]
    choose = min if sweep.lower_is_better else max
    return choose(values, key=lambda pair: pair[0])[1] if values else None


def _note(sweep: Sweep, best: Trial | None) -> str:
    num_bad = sum(trial.state != DONE for trial in sweep.trials)
    note = f"{len(sweep.trials)} trials, {num_bad} not done. Overrides that all trials share are left out."
    if best is None:
        return note
    name, value = best.optimized()
    way = "lower" if sweep.lower_is_better else "higher"
    return f"Best is trial {best.number} ({best.given}): {name} {value:.6g}, {way} is better. {note}"


def _optimized_name(sweep: Sweep) -> str:
    names = (trial.optimized()[0] for trial in sweep.trials if trial.part or (trial.record and trial.record.metric))
    return next(names, DEFAULT_METRIC)


def _trial_dirs(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    inner = [one for one in path.iterdir() if one.is_dir()]
    return sorted(
        (one for one in inner if one.name.isdigit() or (one / TRIAL_FILE).is_file()),
        key=lambda one: (len(one.name), one.name),  # numbers by their size
    )


def _inner_sweeps(path: Path) -> list[Path]:
    """Sweeps in a folder that holds nothing but sweeps."""
    folders = sorted(one for one in path.iterdir() if one.is_dir()) if path.is_dir() else []
    return folders if folders and all(map(_is_marked, folders)) else []


def _is_marked(path: Path) -> bool:
    return any((path / name).is_file() for name in (SWEEP_FILE, MULTIRUN_FILE))


def _is_complete(path: Path) -> bool:
    return any(all((path / name).is_file() for name in names) for names in (RUN_FILES, EVALUATION_FILES))


def _overrides(folder: Path, record: TrialRecord | None) -> tuple[str, ...]:
    """What a trial was given; of one that could not begin its record alone says so."""
    return read_overrides(folder) or (record.overrides if record else ())


def _state(part: TrainingRun | Evaluation | None, record: TrialRecord | None) -> str:
    if record is not None and record.state == FINISHED:
        return DONE
    if record is not None and record.state == RUNNING and record.is_alive:
        return RUNNING
    if record is not None and record.state in (FAILED, KILLED, RUNNING):
        return FAILED if record.state == FAILED else KILLED
    if part is None:
        return FAILED if record is None else record.state
    if isinstance(part, Evaluation):
        return DONE
    trainer = _yaml(part.origin.config).get("trainer")
    wanted = trainer.get("max_steps") if isinstance(trainer, dict) else None
    saved = [int(one.stem.removeprefix("step-")) for one in (part.path / "checkpoints").glob("step-[0-9]*.ckpt")]
    reached = max([*saved, 0 if part.last_step is None else part.last_step + 1])
    if isinstance(wanted, int) and 0 <= reached < wanted:
        return f"stopped at step {reached} of {wanted}"
    return DONE


def _direction(path: Path) -> str:
    """``minimize`` or ``maximize``, as the sweep records it, or Hydra for it."""
    own, hydra = (
        _yaml(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for file in (path / SWEEP_FILE, path / MULTIRUN_FILE)
    )
    sweeper = (hydra.get("hydra") or {}).get("sweeper") or {}
    return str(own.get("direction") or sweeper.get("direction") or "minimize")


def _yaml(text: str) -> dict[str, Any]:
    """Keys and values; none where the text is no such YAML (a trial may have died while it wrote)."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def read_all(
    directories: Sequence[Path],
) -> tuple[list[TrainingRun], list[Evaluation], list[Sweep]]:
    """Read runs, evaluations and sweeps.

    Args:
        directories: In any mix.

    Returns:
        Runs and evaluations, those of the sweeps among them, and the sweeps.

    Raises:
        CheckpointError: A directory is none of the three; the message says which files were expected.
        DataError: A file in one can not be read; the message gives its path.
    """
    plain, sweep_paths = expand(directories)
    runs, evaluations = read_directories(plain)
    return runs, evaluations, [read_sweep(path, [*runs, *evaluations]) for path in sweep_paths]
