"""The page: from directories to one HTML file that needs nothing else."""

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
from mgie_lit.report.curves import NUM_COLOURS, curve_panels
from mgie_lit.report.pictures import data_uri, make_gallery
from mgie_lit.report.read import Evaluation, TrainingRun, read_directories
from mgie_lit.report.tables import comparison, group_tables, metric_rows
from mgie_lit.report.verdict import headline, interval_note, verdicts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.report.pictures import Gallery
    from mgie_lit.report.read import Origin
    from mgie_lit.report.tables import GroupTable, MetricRow
    from mgie_lit.report.verdict import Verdict

NUM_PICTURES = 24  # samples shown of all evaluations together
MIN_PICTURES = 6  # samples shown of each
MAX_RUN_PICTURE_SIDE = 1600  # pixels of a training run's last grid


@dataclass(frozen=True)
class EvaluationPart:
    """What the page says about one evaluation."""

    evaluation: Evaluation
    headline: str
    verdicts: list[Verdict]
    rows: list[MetricRow]
    groups: list[GroupTable]
    gallery: Gallery
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


def write_report(dirs: Sequence[Path], output: Path) -> None:
    """Write one self-contained HTML page about training runs and evaluations.

    It holds the verdict against copying, tables with 95 % intervals, loss curves, pictures, and how all was made;
    images and curves are inside the file, and nothing is loaded from elsewhere.

    Args:
        dirs: Directories that ``mgie train`` or ``mgie eval`` made, in any mix; at least one.
        output: The file to write; its folder is made where it is missing.

    Raises:
        ConfigError: No directory is given, or ``output`` is there already.
        CheckpointError: A directory is neither run nor evaluation; the message says which files were expected.
        DataError: A file in a directory can not be read; the message gives its path.
    """
    if not dirs:
        raise ConfigError("report: expected at least one run or evaluation directory, got none; name one")
    if output.exists():
        raise ConfigError(f"report: expected a new file, but {output} exists; choose another name, or remove it")
    runs, evaluations = read_directories(dirs)
    page = _render(runs, evaluations, command=["mgie", "report", *map(str, dirs), "-o", str(output)])
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, lambda draft: draft.write_text(page, encoding="utf-8"))


def _render(runs: list[TrainingRun], evaluations: list[Evaluation], command: list[str]) -> str:
    environment = Environment(
        loader=PackageLoader("mgie_lit.report"),
        autoescape=select_autoescape(["html"]),  # instructions are strangers' words
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    count = max(MIN_PICTURES, NUM_PICTURES // max(1, len(evaluations)))
    return environment.get_template("report.html").render(
        title=_title(runs, evaluations),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        runs=runs,
        parts=[_evaluation_part(evaluation, count) for evaluation in evaluations],
        comparison=comparison(evaluations) if len(evaluations) > 1 else [],
        panels=[(panel.title, Markup(panel.svg)) for panel in curve_panels(runs)],  # our own drawing
        run_pictures=_run_pictures(runs),
        making_of=_making_of(runs, evaluations),
        versions=_versions(runs, evaluations),
        commits=_commits(runs, evaluations),
        command=shlex.join(command),
        num_colours=NUM_COLOURS,
    )


def _together(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> list[TrainingRun | Evaluation]:
    return [*runs, *evaluations]


def _title(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> str:
    names = list(dict.fromkeys(part.name for part in _together(runs, evaluations)))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _evaluation_part(evaluation: Evaluation, count: int) -> EvaluationPart:
    results = verdicts(evaluation)
    return EvaluationPart(
        evaluation=evaluation,
        headline=headline(results),
        verdicts=results,
        rows=metric_rows(evaluation),
        groups=group_tables(evaluation),
        gallery=make_gallery(evaluation, count),
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
    command = shlex.join(["mgie", job, *part.origin.overrides]) if is_recorded else ""
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
