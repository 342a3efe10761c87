"""Read what training runs and evaluations left in their directories."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import yaml

from mgie_lit.errors import CheckpointError, DataError
from mgie_lit.evaluation.journal import PROGRESS_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG_FILE, OVERRIDES_FILE, VERSIONS_FILE = "config.yaml", "overrides", "versions.json"
CURVES_FILE = "metrics.csv"
METRICS_FILE, TABLE_FILE = "metrics.json", "per_sample.parquet"
RUN_FILES = (CONFIG_FILE, CURVES_FILE)
EVALUATION_FILES = (METRICS_FILE, TABLE_FILE)
_TABLE_COLUMNS = ("sample_id", "instruction")


@dataclass(frozen=True)
class Origin:
    """How a directory came about; what is not recorded is empty."""

    config: str = ""  # YAML text
    overrides: tuple[str, ...] = ()
    versions: dict[str, Any] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """Git commit in short, marked where files had been changed; "" where none is recorded."""
        commit = self.versions.get("git_commit")
        changed = " with uncommitted changes" if self.versions.get("git_dirty") else ""
        return f"{str(commit)[:10]}{changed}" if commit else ""

    @property
    def packages(self) -> dict[str, str]:
        """Name -> version of Python and the packages."""
        own = {key: str(self.versions[key]) for key in ("mgie_lit", "python") if self.versions.get(key)}
        return own | {name: str(number) for name, number in dict(self.versions.get("packages") or {}).items()}


@dataclass(frozen=True)
class TrainingRun:
    """A directory that ``mgie train`` made."""

    name: str  # unique within the report
    path: Path
    curves: pd.DataFrame  # column step, then a column a logged key, NaN where not logged
    origin: Origin
    last_picture: Path | None  # newest grid of validation edits

    @property
    def last_step(self) -> int | None:
        """The last optimizer step that was logged, None where none was."""
        return int(self.curves["step"].max()) if len(self.curves) else None


@dataclass(frozen=True)
class Evaluation:
    """A directory that ``mgie eval`` made."""

    name: str  # unique within the report
    path: Path
    summary: dict[str, Any]  # metrics.json
    table: pd.DataFrame  # per_sample.parquet: a row a sample and seed
    origin: Origin

    def section(self, name: str) -> dict[str, Any]:
        """A part of ``metrics.json``; empty where it is missing."""
        return dict(self.summary.get(name) or {})

    @property
    def metric_names(self) -> list[str]:
        """In the order of ``metrics.json``."""
        return list(self.section("metrics"))


def read_directories(directories: Sequence[Path]) -> tuple[list[TrainingRun], list[Evaluation]]:
    """Read every directory once, in the order given.

    Args:
        directories: Training runs and evaluations, mixed; a directory that is both counts as both.

    Returns:
        Runs and evaluations, with short names that tell them apart: evaluations are named after their systems.

    Raises:
        CheckpointError: A directory is neither; the message says which files were expected.
        DataError: A file in one can not be read; the message gives its path.
    """
    unique = list({path.resolve(): path for path in directories})
    runs: list[TrainingRun] = []
    evaluations: list[Evaluation] = []
    for path, name in zip(unique, _short_names(unique), strict=True):
        is_run, is_evaluation = (_holds(path, names) for names in (RUN_FILES, EVALUATION_FILES))
        if not is_run and not is_evaluation:
            raise _neither(path)
        origin = _read_origin(path)
        if is_run:
            pictures = sorted((path / "images").glob("step-*.png"))
            runs.append(TrainingRun(name, path, _read_curves(path), origin, pictures[-1] if pictures else None))
        if is_evaluation:
            evaluations.append(Evaluation(name, path, _read_summary(path), _read_table(path), origin))
    return runs, _named_after_systems(evaluations)


def _named_after_systems(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """A system's name says more than a directory's; where several have it, the directory tells them apart."""
    systems = [str(one.section("source").get("system") or "") for one in evaluations]
    times = Counter(system or one.name for one, system in zip(evaluations, systems, strict=True))
    return [
        replace(one, name=system if times[system] == 1 else f"{system} ({one.name})") if system else one
        for one, system in zip(evaluations, systems, strict=True)
    ]


def _holds(path: Path, names: Sequence[str]) -> bool:
    return all((path / name).is_file() for name in names)


def _neither(path: Path) -> CheckpointError:
    if (path / PROGRESS_DIR).is_dir():
        return CheckpointError(
            f"{path}: expected an evaluation that is complete, got one that was interrupted; go on with "
            f"`mgie eval resume={path}`, or leave it out"
        )
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing there"
    else:
        names = sorted(entry.name for entry in path.iterdir())
        got = ("a folder with " + ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")) if names else "no files"
    return CheckpointError(
        f"{path}: expected a training run (with {' and '.join(RUN_FILES)}) or an evaluation (with "
        f"{' and '.join(EVALUATION_FILES)}), got {got}; name a directory that `mgie train` or `mgie eval` made"
    )


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as many as it takes to tell them apart.

    >>> _short_names([Path("/runs/a/eval"), Path("/runs/b/eval"), Path("/runs/c")])
    ['a/eval', 'b/eval', 'c']
    >>> _short_names([Path("/runs/multirun/sweep/0")])  # the number of a trial alone says nothing
    ['sweep/0']
    """

    def shorten(path: Path, count: int) -> str:
        parts = path.parts[1:] if path.is_absolute() else path.parts
        return "/".join(parts[-count:]) or str(path)

    names = []
    for path in paths:
        count, others = 1 + path.name.isdigit(), [other for other in paths if other != path]
        while count < len(path.parts) and shorten(path, count) in {shorten(other, count) for other in others}:
            count += 1
        names.append(shorten(path, count))
    return names


def _read_origin(path: Path) -> Origin:
    config = path / CONFIG_FILE
    versions = _read(path / VERSIONS_FILE, _load_json) if (path / VERSIONS_FILE).is_file() else {}
    text = _read(config, lambda file: file.read_text(encoding="utf-8")) if config.is_file() else ""
    return Origin(text, read_overrides(path), _mapping(path / VERSIONS_FILE, versions))


def read_overrides(path: Path) -> tuple[str, ...]:
    """What was typed, as a directory records it; empty where it does not.

    Args:
        path: Of a run, an evaluation, or what a failed one left.

    Returns:
        In the order typed.

    Raises:
        DataError: The record is no list.
    """
    file = path / OVERRIDES_FILE
    overrides = _read(file, _load_yaml) if file.is_file() else []
    if not isinstance(overrides, list):
        raise DataError(f"{file}: expected a YAML list of overrides, got {type(overrides).__name__}")
    return tuple(str(item) for item in overrides)


def _read_curves(path: Path) -> pd.DataFrame:
    curves: pd.DataFrame = _read(path / CURVES_FILE, pd.read_csv)
    if "step" not in curves:
        raise DataError(f"{path / CURVES_FILE}: expected a column step, got {', '.join(map(str, curves.columns))}")
    numbers: pd.DataFrame = curves.apply(pd.to_numeric, errors="coerce").replace([math.inf, -math.inf], math.nan)
    return numbers.dropna(subset="step")


def _read_summary(path: Path) -> dict[str, Any]:
    summary = _mapping(path / METRICS_FILE, _read(path / METRICS_FILE, _load_json))
    if not isinstance(summary.get("metrics"), dict):
        raise DataError(f"{path / METRICS_FILE}: expected a key metrics with a value a metric, got {list(summary)}")
    return summary


def _read_table(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = _read(path / TABLE_FILE, pd.read_parquet)
    missing = [name for name in _TABLE_COLUMNS if name not in table]
    if missing:
        raise DataError(f"{path / TABLE_FILE}: expected columns {', '.join(_TABLE_COLUMNS)}; {missing[0]} is missing")
    return table


def _load_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def _load_yaml(path: Path) -> object:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


def _mapping(path: Path, content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected keys and values, got {type(content).__name__}")
    return content


def _read(path: Path, load: Callable[[Path], Any]) -> Any:  # noqa: ANN401 - whatever the file holds
    """What ``load`` gives, or an error that names the file."""
    try:
        return load(path)
    except (OSError, ValueError, yaml.YAMLError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); make the directory again, or leave it out") from error
