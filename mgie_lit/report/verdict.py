"""Does a model beat copying the source? In words, from intervals, and never kinder than they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.report.read import Evaluation

Outcome = Literal["better", "worse", "open", "unknown"]

MISSING = "–"  # noqa: RUF001 - an en dash in a table cell
MINUS = "−"  # noqa: RUF001 - a true minus, as wide as a plus
FEW_UNITS = 10  # fewer independent units make an interval rough
LABELS = {
    "l1": "L1",
    "l2": "L2",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "clip_i": "CLIP-I",
    "clip_t": "CLIP-T",
    "clip_direction": "CLIP direction",
    "dino": "DINO",
    "expressive_exact": "Expressive text exact",
    "expressive_operation": "Expressive text right",
}
_LOWER_IS_BETTER = ("l1", "l2", "lpips")  # where an evaluation does not say
_SHARES = ("expressive_",)  # metrics that count hits, shown in per cent


@dataclass(frozen=True)
class Verdict:
    """One metric beside copying."""

    metric: str
    outcome: Outcome
    sentence: str


def metric_label(name: str) -> str:
    """Name for people; an unknown metric keeps its own."""
    return LABELS.get(name, name)


def higher_is_better(name: str, evaluation: Evaluation) -> bool:
    """As the evaluation's protocol says, else by the metric's name."""
    described = dict(evaluation.section("protocol").get("metrics") or {}).get(name)
    said = described.get("higher_is_better") if isinstance(described, dict) else None
    return said if isinstance(said, bool) else not name.startswith(_LOWER_IS_BETTER)


def format_value(name: str, value: float | None, *, sign: bool = False) -> str:
    """A metric's value as text: per cent for shares, two digits for dB, four for the rest.

    >>> format_value("l1", 0.02587), format_value("psnr", 24.123, sign=True), format_value("expressive_exact", 0.975)
    ('0.0259', '+24.12', '97.5 %')
    """
    if value is None or value != value:  # NaN
        return MISSING
    plus = "+" if sign else ""
    if name.startswith(_SHARES):
        text = f"{100 * value:{plus}.1f} %"
    else:
        text = f"{value:{plus}.{2 if name.startswith('psnr') else 4}f}"
    return text.replace("-", MINUS)


def outcome(difference: dict[str, Any] | None, *, higher: bool) -> Outcome:
    """Which side of zero the 95 % interval of ``model - copy`` lies on.

    Args:
        difference: ``{"mean", "ci_low", "ci_high"}``.
        higher: Whether higher values of the metric are better.

    Returns:
        "better" or "worse" where the interval excludes zero, "open" where it does not, "unknown" without an interval.
    """
    low, high = ((difference or {}).get(key) for key in ("ci_low", "ci_high"))
    if low is None or high is None:
        return "unknown"
    if low > 0:
        return "better" if higher else "worse"
    if high < 0:
        return "worse" if higher else "better"
    return "open"


def verdicts(evaluation: Evaluation) -> list[Verdict]:
    """One for each metric that copying has too."""
    paired = evaluation.section("paired_vs_copy")
    return [_verdict(name, evaluation, paired[name]) for name in evaluation.metric_names if name in paired]


def _verdict(name: str, evaluation: Evaluation, difference: dict[str, Any]) -> Verdict:
    result = outcome(difference, higher=higher_is_better(name, evaluation))
    model, copy = (evaluation.section(part).get(name, {}).get("mean") for part in ("metrics", "copy"))
    share = (
        f" ({model / copy:.2f} of it)" if model is not None and copy and not higher_is_better(name, evaluation) else ""
    )
    against = f"{metric_label(name)} {format_value(name, model)} against {format_value(name, copy)} for copying{share}"
    mean, low, high = (format_value(name, difference.get(key), sign=True) for key in ("mean", "ci_low", "ci_high"))
    measured = f"difference {mean}, 95 % interval {low} to {high}"
    words = {
        "better": f"better: {measured}",
        "worse": f"worse: {measured}",
        "open": f"no difference shown: {mean}, and the 95 % interval {low} to {high} includes zero",
        "unknown": "no interval, so nothing can be said",
    }
    if difference.get("ci_low") == difference.get("ci_high") == 0:
        words["open"] = "exactly as copying"
    return Verdict(name, result, f"{against}; {words[result]}.")


def headline(results: Sequence[Verdict]) -> str:
    """The answer in one sentence.

    >>> headline([Verdict("l1", "better", ""), Verdict("ssim", "open", "")])
    'Beats copying on L1; does not on SSIM.'
    """
    if not results:
        return "Not compared with copying: this evaluation has no paired differences."
    won = [metric_label(result.metric) for result in results if result.outcome == "better"]
    lost = [metric_label(result.metric) for result in results if result.outcome != "better"]
    if not lost:
        return f"Beats copying on {_listed(won)}."
    if not won:
        return f"Does not beat copying on {_listed(lost, last='or')}."
    return f"Beats copying on {_listed(won)}; does not on {_listed(lost, last='or')}."


def interval_note(evaluation: Evaluation) -> str:
    """How the intervals were made, and a warning where they rest on little; "" where nothing is recorded."""
    made = evaluation.section("protocol").get("intervals")
    if not isinstance(made, dict) or "num_units" not in made:
        return ""
    count = int(made["num_units"])
    note = (
        f"Intervals: {made.get('method', 'bootstrap')} over {count} independent units ({made.get('unit', 'sample')})."
    )
    return note + (" So few units make the intervals rough." if count < FEW_UNITS else "")


def split_note(evaluation: Evaluation) -> str:
    """A warning where what was measured was also trained on; "" where it was not, or nothing is recorded."""
    protocol = evaluation.section("protocol")
    shared = [str(split) for split in protocol.get("shared_splits") or ()]
    if not shared:
        return ""
    return (
        f"Measured on examples that were also there to train on: the splits {_listed(shared)} are the same rows, so "
        "this says nothing about new pictures."
    )


def _listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
