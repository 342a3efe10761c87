"""An evaluation's numbers for a card: those of ``metrics.json``, with their intervals, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from mgie_lit.checkpoints.cards.commands import overrides_of
from mgie_lit.checkpoints.cards.data_sets import data_sets_of
from mgie_lit.checkpoints.json_files import read_json
from mgie_lit.errors import CheckpointError

METRICS_FILE = "metrics.json"
TASK = "image-to-image"
_DIGITS = 4  # significant ones


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Args:
        summary: ``metrics.json``.
        commit: Git commit of the code that measured; "" where none is recorded.
        overrides: What was typed; None where it is not recorded.
    """

    summary: Mapping[str, Any]
    commit: str = ""
    overrides: tuple[str, ...] | None = None

    @classmethod
    def read(cls, folder: Path) -> Results:
        """Of an evaluation's directory.

        Args:
            folder: With ``metrics.json``, as ``mgie eval`` makes it.

        Returns:
            The results.

        Raises:
            CheckpointError: There are no numbers.
        """
        file = folder / METRICS_FILE
        if not file.is_file():
            raise CheckpointError(
                f"--metrics: expected the directory of a finished evaluation, with {METRICS_FILE}, got {folder}; make "
                "one with mgie eval"
            )
        summary = read_json(file)
        if not isinstance(summary.get("metrics"), dict) or not summary["metrics"]:
            raise CheckpointError(f"{file}: expected numbers under 'metrics', found none; make one with mgie eval")
        versions = folder / "versions.json"
        commit = (read_json(versions) if versions.is_file() else {}).get("git_commit")
        typed = overrides_of(folder)
        return cls(summary, str(commit or ""), None if typed is None else tuple(typed))

    @property
    def source(self) -> dict[str, Any]:
        """What was evaluated."""
        return dict(self.summary.get("source") or {})

    def eval_results(self) -> list[EvalResult]:
        """For the hub's ``model-index``; intervals are arguments of their metric."""
        protocol = self.summary.get("protocol") or {}
        sets = data_sets_of(protocol.get("data"))
        names = [one.name for one in sets] or ["unknown"]
        chosen = " ".join(one for one in self.overrides or () if one.startswith(("data=", "data.")))
        return [
            EvalResult(
                task_type=TASK,
                task_name="Instruction-based image editing",
                dataset_type=next((one.hub_id for one in sets if one.hub_id and len(sets) == 1), "+".join(names)),
                dataset_name=", ".join(names),
                dataset_config=chosen or None,
                dataset_split=protocol.get("split"),
                metric_type=name,
                metric_name=name,
                metric_value=value["mean"],
                metric_args={key: value[key] for key in ("ci_low", "ci_high", "n") if value.get(key) is not None},
            )
            for name, value in self.summary["metrics"].items()
            if value.get("mean") is not None
        ]

    def table(self) -> str:
        """Markdown: a row a metric, beside what copying the source gives."""
        protocol, copy = self.summary.get("protocol") or {}, self.summary.get("copy") or {}
        differences = self.summary.get("paired_vs_copy") or {}
        sets = ", ".join(f"`{one.name}`" for one in data_sets_of(protocol.get("data"))) or "unknown data"
        seeds = protocol.get("seeds") or []
        command = "" if self.overrides is None else f"`{' '.join(['mgie eval', *self.overrides])}`: "
        commit = f", commit `{self.commit[:10]}`" if self.commit else ""
        lines = [
            f"{command}split `{protocol.get('split')}` of {sets}, {protocol.get('num_samples')} samples, "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}{commit}. In brackets 95 % "
            "bootstrap intervals. `copy` returns the source unchanged.",
            "",
            "| metric | model | copy | paired difference |",
            "| --- | --- | --- | --- |",
        ]
        for name, value in self.summary["metrics"].items():
            row = (value, copy.get(name), differences.get(name))
            lines.append(f"| `{name}` | {' | '.join(_with_interval(one) for one in row)} |")
        if shared := protocol.get("shared_splits"):
            lines += ["", f"The splits {', '.join(shared)} are the same examples: nothing is said about new pictures."]
        if sampling := protocol.get("sampling"):
            lines += ["", "Sampling: " + ", ".join(f"`{key}={value}`" for key, value in sampling.items()) + "."]
        return "\n".join(lines)


def other_weights(results: Results, folder: Path | None, source: Path) -> CheckpointError:
    """The error that an evaluation measured other weights than those that its numbers are to describe.

    Args:
        results: Of the evaluation.
        folder: Its directory.
        source: The weights.

    Returns:
        To be raised.
    """
    keys = ("checkpoint", "file", "weights", "predictions", "system")
    told = ", ".join(f"{key} {results.source[key]}" for key in keys if results.source.get(key))
    return CheckpointError(
        f"--metrics: expected an evaluation of the weights of {source}, got {folder}, which measured "
        f"{told or 'something that is not recorded'}; evaluate these with mgie eval checkpoint=..."
    )


def _with_interval(value: Mapping[str, Any] | None) -> str:
    if not value or value.get("mean") is None:
        return "-"
    low, high = value.get("ci_low"), value.get("ci_high")
    interval = "" if low is None or high is None else f" [{low:.{_DIGITS}g}, {high:.{_DIGITS}g}]"
    return f"{value['mean']:.{_DIGITS}g}{interval}"
