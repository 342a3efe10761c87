"""The page: from directories to one HTML file that needs nothing else, and its tables as Markdown and CSV."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mgie_lit.errors import ConfigError
from mgie_lit.evaluation.files import write_whole
from mgie_lit.report.compare import category_tables, choose_pairs, group_by_data, pair_table
from mgie_lit.report.curves import NUM_COLOURS, curve_panels
from mgie_lit.report.dashboard import show_report
from mgie_lit.report.differences import config_differences
from mgie_lit.report.export import as_frames, as_markdown, write_csv
from mgie_lit.report.images import FULL_SCALE, MAX_SIDE, data_uri
from mgie_lit.report.pictures import make_gallery
from mgie_lit.report.read import Evaluation, TrainingRun
from mgie_lit.report.samples import make_grid
from mgie_lit.report.sweeps import read_all, trial_table
from mgie_lit.report.systems import systems_table, title_of
from mgie_lit.report.tables import comparison, group_tables, metric_rows
from mgie_lit.report.verdict import headline, interval_note, split_note, verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.report.pictures import Gallery
    from mgie_lit.report.read import Origin
    from mgie_lit.report.samples import SampleGrid
    from mgie_lit.report.sweeps import Sweep
    from mgie_lit.report.tables import ComparisonBlock, GroupTable, MetricRow, Table
    from mgie_lit.report.verdict import Verdict

IMAGE_BUDGET = 18_000_000  # bytes of all images of samples together, so that the page stays under 20 MB
MIN_GRID_SHARE = 0.1  # of the budget, for a data set's grid where best and worst samples have taken the most
FEW_EVALUATIONS = 8  # of more, best and worst samples are shown smaller
SMALL_SIDE = 96  # pixels then
MAX_RUN_PICTURE_SIDE = 1600  # pixels of a training run's last grid
_NOT_IN_DOUBLE_QUOTES = set('"$`\\!')  # a shell would read them
MARKDOWN_SUFFIX, TABLES_SUFFIX = ".md", "_tables"  # beside the page, with its name


@dataclass(frozen=True)
class EvaluationPart:
    """What the page says about one evaluation."""

    evaluation: Evaluation
    headline: str
    verdicts: list[Verdict]
    rows: list[MetricRow]
    groups: list[GroupTable]
    gallery: Gallery
    split_note: str
    interval_note: str
    facts: dict[str, str]


@dataclass(frozen=True)
class MakingOf:
    """How one directory came about."""

    name: str
    path: str
    command: str  # "" where neither overrides nor config are recorded
    origin: Origin
    protocol: str  # YAML text; "" for a training run


@dataclass(frozen=True)
class DataPart:
    """What the page says about evaluations of the same data."""

    title: str
    evaluations: list[EvaluationPart]
    systems: Table
    pairs: list[tuple[Table, list[Table]]]  # differences, and the same by the values of each attribute
    beside_copy: list[ComparisonBlock]
    grid: SampleGrid | None


@dataclass(frozen=True)
class Contents:
    """What the page is made of."""

    runs: list[TrainingRun]
    evaluations: list[Evaluation]
    sweeps: list[Sweep]
    parts: list[DataPart]
    trials: list[Table]
    config_tables: list[Table]

    def sections(self) -> dict[str, list[Table]]:
        """Tables under headings, for Markdown and CSV."""
        return {
            "Systems": [part.systems for part in self.parts],
            "Paired differences": [table for part in self.parts for table, _ in part.pairs],
            "Paired differences by category": [
                table for part in self.parts for _, tables in part.pairs for table in tables
            ],
            "Trials": self.trials,
            "Config differences": self.config_tables,
        }


def write_report(dirs: Sequence[Path], output: Path, *, wandb_project: str | None = None) -> None:
    """Write one self-contained HTML page about runs, evaluations and sweeps, and its tables beside it.

    It holds the verdict against copying, tables with 95 % intervals, paired differences, loss curves, a grid of
    samples, trials of sweeps, and how all was made; images and curves are inside the file, and nothing is loaded from
    elsewhere. Beside ``report.html`` lie ``report.md`` and ``report_tables/*.csv`` with the same tables.

    Args:
        dirs: Directories that ``mgie train`` or ``mgie eval`` made, also with ``-m``, in any mix; at least one.
        output: The file to write; its folder is made where it is missing.
        wandb_project: Also hand page and tables to wandb, as a run of this project.

    Raises:
        ConfigError: No directory is given, or ``output`` or one of the files beside it is there already.
        CheckpointError: A directory is neither run nor evaluation; the message says which files were expected.
        DataError: A file in a directory can not be read; the message gives its path.
    """
    if not dirs:
        raise ConfigError("report: expected at least one run or evaluation directory, got none; name one")
    markdown, tables = beside(output)
    for path in (output, markdown, tables):
        if path.exists():
            raise ConfigError(f"report: expected a new file, but {path} exists; choose another name, or remove it")
    contents = _collect(dirs)
    page = _render(contents, command=["mgie", "report", *map(str, dirs), "-o", str(output)])
    sections = contents.sections()
    text = as_markdown(f"Report: {_title(contents.runs, contents.evaluations)}", sections)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_csv(tables, sections)
    write_whole(markdown, lambda draft: draft.write_text(text, encoding="utf-8"))
    write_whole(output, lambda draft: draft.write_text(page, encoding="utf-8"))
    if wandb_project is not None:
        show_report(output, as_frames(sections), project=wandb_project)


def beside(output: Path) -> tuple[Path, Path]:
    """Markdown file and folder of CSV files of a page.

    >>> [path.name for path in beside(Path("out/report.html"))]
    ['report.md', 'report_tables']
    """
    return output.with_suffix(MARKDOWN_SUFFIX), output.with_name(output.stem + TABLES_SUFFIX)


def shell_command(words: Sequence[str]) -> str:
    """A command line that a shell reads as these words; double quotes around a word that has single ones of its own.

    >>> print(shell_command(["mgie", "eval", "paths.run_dir='a b'", "seed=1"]))
    mgie eval "paths.run_dir='a b'" seed=1
    """
    plain = [
        f'"{word}"' if "'" in word and not _NOT_IN_DOUBLE_QUOTES & set(word) else shlex.quote(word) for word in words
    ]
    return " ".join(plain)


def _collect(dirs: Sequence[Path]) -> Contents:
    runs, evaluations, sweeps = read_all(dirs)
    side = MAX_SIDE if len(evaluations) <= FEW_EVALUATIONS else SMALL_SIDE
    made = {evaluation.name: _evaluation_part(evaluation, side) for evaluation in evaluations}
    used = sum(part.gallery.num_bytes for part in made.values())
    groups = group_by_data(evaluations)
    budget = int(max(IMAGE_BUDGET - used, MIN_GRID_SHARE * IMAGE_BUDGET) / max(1, len(groups)))
    tables = (config_differences(runs, "Training runs"), config_differences(evaluations, "Evaluations"))
    return Contents(
        runs=runs,
        evaluations=evaluations,
        sweeps=sweeps,
        parts=[_data_part(group, [made[one.name] for one in group], budget) for group in groups],
        trials=[trial_table(sweep) for sweep in sweeps],
        config_tables=[table for table in tables if table],
    )


def _data_part(group: list[Evaluation], parts: list[EvaluationPart], budget: int) -> DataPart:
    return DataPart(
        title=title_of(group),
        evaluations=parts,
        systems=systems_table(group),
        pairs=[(pair_table(pair), category_tables(pair)) for pair in choose_pairs(group)],
        beside_copy=comparison(group) if len(group) > 1 else [],
        grid=make_grid(group, budget=budget),
    )


def _render(contents: Contents, command: list[str]) -> str:
    environment = Environment(
        loader=PackageLoader("mgie_lit.report"),
        autoescape=select_autoescape(["html"]),  # instructions are strangers' words
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    runs, evaluations = contents.runs, contents.evaluations
    return environment.get_template("report.html").render(
        title=_title(runs, evaluations),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        runs=runs,
        data_parts=contents.parts,
        parts=[part for data in contents.parts for part in data.evaluations],
        trials=contents.trials,
        config_tables=contents.config_tables,
        panels=[(panel.title, Markup(panel.svg)) for panel in curve_panels(runs)],  # our own drawing
        run_pictures=_run_pictures(runs),
        making_of=_making_of(runs, evaluations),
        versions=_versions(runs, evaluations),
        commits=_commits(runs, evaluations),
        command=shell_command(command),
        num_colours=NUM_COLOURS,
        full_scale=FULL_SCALE,
    )


def _together(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> list[TrainingRun | Evaluation]:
    return [*runs, *evaluations]


def _title(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> str:
    names = list(dict.fromkeys(part.name for part in _together(runs, evaluations)))
    if not names:
        return "sweep without a finished trial"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _evaluation_part(evaluation: Evaluation, max_side: int) -> EvaluationPart:
    results = verdicts(evaluation)
    return EvaluationPart(
        evaluation=evaluation,
        headline=headline(results),
        verdicts=results,
        rows=metric_rows(evaluation),
        groups=group_tables(evaluation),
        gallery=make_gallery(evaluation, max_side=max_side),
        split_note=split_note(evaluation),
        interval_note=interval_note(evaluation),
        facts=_facts(evaluation),
    )


def _facts(evaluation: Evaluation) -> dict[str, str]:
    """What was measured, on what, for the line under the verdict."""
    protocol = evaluation.section("protocol")
    sampling = protocol.get("sampling")
    facts = {key: str(value) for key, value in evaluation.section("source").items() if value is not None}
    facts |= {key: str(protocol[key]) for key in ("split", "num_samples", "seeds") if protocol.get(key) is not None}
    if isinstance(sampling, dict):
        facts |= {key: str(value) for key, value in sampling.items() if value is not None}
    return {key.removeprefix("num_").replace("_", " "): value for key, value in facts.items()}


def _run_pictures(runs: Sequence[TrainingRun]) -> list[tuple[str, str]]:
    """Caption and data URI of each run's last grid of validation edits."""
    pictures = []
    for run in runs:
        uri = run.last_picture and data_uri(run.last_picture, max_side=MAX_RUN_PICTURE_SIDE)
        if run.last_picture and uri:
            step = run.last_picture.stem.removeprefix("step-").lstrip("0") or "0"
            pictures.append((f"{run.name}: validation edits at step {step}", uri))
    return pictures


def _making_of(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> list[MakingOf]:
    """Runs first, then evaluations with their protocol."""
    entries: list[MakingOf] = [_made(run, "train") for run in runs]
    for evaluation in evaluations:
        protocol = evaluation.section("protocol")
        text = yaml.safe_dump(protocol, sort_keys=False, allow_unicode=True) if protocol else ""
        entries.append(_made(evaluation, "eval", protocol=text))
    return entries


def _made(part: TrainingRun | Evaluation, job: str, protocol: str = "") -> MakingOf:
    is_recorded = bool(part.origin.overrides or part.origin.config)
    command = shell_command(["mgie", job, *part.origin.overrides]) if is_recorded else ""
    return MakingOf(part.name, str(part.path), command, part.origin, protocol)


def _commits(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> list[str]:
    return list(dict.fromkeys(part.origin.commit for part in _together(runs, evaluations) if part.origin.commit))


def _versions(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Versions of all directories; a package with several lists them."""
    found: dict[str, list[str]] = {}
    for part in _together(runs, evaluations):
        for name, number in part.origin.packages.items():
            if number not in found.setdefault(name, []):
                found[name].append(number)
    return {name: ", ".join(numbers) for name, numbers in found.items()}
