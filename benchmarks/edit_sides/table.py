"""What ``edit.py`` measured, as Markdown."""

from __future__ import annotations

from typing import Any

from shared.measures import spread
from shared.origin import origin
from step_sides.sides import SIDES


def render(result: dict[str, Any]) -> str:
    """The result as a short text with tables.

    Args:
        result: From ``edit.report``.
    """
    blocks = [_setting(result), _rows(result), _switches(result), _parts(result), _closeness(result)]
    blocks += [_shipped(result)] if result["shipped"] else []
    return "\n\n".join([*blocks, _memory(result)])


def render_page(result: dict[str, Any], command: str) -> str:
    """The page of ``docs/benchmarks``.

    Args:
        result: From ``edit.report``.
        command: That made it.
    """
    env = result["environment"]
    return "\n\n".join(
        [
            f"# An edit beside the released code's, {env['month']}",
            origin(env, command),
            "The yardstick is the released code's edit written down plainly (`benchmarks/reference_step.py`): "
            "`python benchmarks/reference_step.py --golden DIR` compares it with a recording of the released code. "
            "Both sides have the same weights (random), picture, noise and number type (float32), and take turns in "
            "one process. The words are dictated to both, and their scores are computed all the same.",
            render(result),
        ]
    )


def _setting(result: dict[str, Any]) -> str:
    tokens, steps = result["tokens"], result["steps"]
    return (
        f"size={result['size']}, {result['side']} px, a prompt of {tokens['prompt']} tokens and {tokens['written']} "
        f"written, {result['rounds']} round(s). The conditions of both sides agree to "
        f"{result['condition_difference']:.0e} of the largest value, their images of {steps} steps to "
        f"{result['levels_apart']} of 255."
    )


def _rows(result: dict[str, Any]) -> str:
    lines = [
        "| ours | CPU seconds over the plain edit's, median [p10, p90] | wall time | bound | goal | CPU seconds, ours "
        "and plain |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        bound, goal = ("" if row[key] is None else f"{row[key]:.2f}" for key in ("bound", "goal"))
        seconds = row["cpu_s"]
        lines.append(
            f"| {row['name']} | {spread(row['ratio'])} | {spread(row['wall_ratio'])} | {bound} | {goal} | "
            f"{seconds['ours']:.2f}, {seconds['yardstick']:.2f} |"
        )
    note = (
        "The bound is the share of the plain edit that no switch removes, with its own kernels. The plain edit beside "
        "`fast` takes the 100 steps that the released code's pipeline takes when nothing is said."
    )
    missed = [row["name"] for row in result["rows"] if row["goal"] is not None and row["ratio"]["median"] > row["goal"]]
    verdict = f"Missed goals: {'; '.join(missed)}." if missed else "All goals are reached."
    return "\n".join(lines) + f"\n\n{note} {verdict}"


def _switches(result: dict[str, Any]) -> str:
    lines = ["| one switch alone, in the plain prompt and text | ratio |", "| --- | --- |"]
    lines += [f"| {row['name']} | {spread(row['ratio'])} |" for row in result["switches"]]
    lines += ["", "| what `fast` is made of | ratio |", "| --- | --- |"]
    lines += [f"| {row['name']} | {spread(row['ratio'])} |" for row in result["fast_switches"]]
    return "\n".join(lines)


def _parts(result: dict[str, Any]) -> str:
    lines = [f"| part of the plain whole edit of {result['steps']} steps | CPU seconds |", "| --- | --- |"]
    lines += [f"| {name} | {spent:.3f} |" for name, spent in result["parts_s"].items()]
    return "\n".join(lines)


def _closeness(result: dict[str, Any]) -> str:
    lines = ["| image, against that of the plain 100 steps from the same noise | L1 | SSIM |", "| --- | --- | --- |"]
    lines += [f"| {name} | {row['l1']:.3f} | {row['ssim']:.3f} |" for name, row in result["closeness"].items()]
    note = (
        "These weights are random: nothing in their images is a picture, and guidance of a network that knows nothing "
        "adds up noise. The rows say how far apart the solvers end, and nothing about quality."
    )
    return "\n".join(lines) + f"\n\n{note}"


def _shipped(result: dict[str, Any]) -> str:
    first = result["shipped"][0]["metrics"]["l1"]
    lines = [
        f"The shipped weights `tiny`, {first['n']} edits of the test photographs (`mgie eval checkpoint=tiny`), means "
        "with 95 % intervals over photographs:",
        "",
        "| setting | steps | L1 | SSIM | CPU seconds, all of the evaluation |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in result["shipped"]:
        scores = [_interval(row["metrics"][key]) for key in ("l1", "ssim")]
        lines.append(f"| {row['name']} | {row['steps']} | {scores[0]} | {scores[1]} | {row['cpu_s']:.0f} |")
    copy = [_interval(result["shipped"][0]["copy"][key]) for key in ("l1", "ssim")]
    lines.append(f"| copy | | {copy[0]} | {copy[1]} | |")
    return "\n".join(lines)


def _interval(score: dict[str, float]) -> str:
    return f"{score['mean']:.4f} [{score['ci_low']:.4f}, {score['ci_high']:.4f}]"


def _memory(result: dict[str, Any]) -> str:
    peak = result["peak_memory"]
    mebibytes = [f"{peak[side] / 2**20:.0f}" for side in SIDES]
    return (
        f"Peak memory of the process: {mebibytes[0]} MiB against {mebibytes[1]}, {peak['ratio']:.2f}; {mebibytes[2]} "
        "MiB of both are libraries and model before the first edit."
    )
