"""What ``gpu.py`` measured, as Markdown."""

from __future__ import annotations

from typing import Any

from mgie_lit.training.peaks import TERA

GIB = 2**30
NO_MEASUREMENT = "CPU: not a measurement."
STAGES = {  # in the order in which they are measured
    "training": "the step at growing batch sizes",
    "ours": "what our switches give",
    "edit": "an edit",
    "yardstick": "the released code's step and one switch at a time",
    "compiled": "our step with the UNet's blocks compiled, too",
}


def render(result: dict[str, Any]) -> str:
    """The result as a short text with tables.

    Args:
        result: From ``gpu.measure``.
    """
    sections = {"training": _training, "switches": _switches, "edit": _edit}
    blocks = [_matrices(result), *(write(result) for name, write in sections.items() if name in result)]
    warning = [] if result["device"]["type"] == "cuda" else [NO_MEASUREMENT]
    missing = [text for stage, text in STAGES.items() if stage not in result["measured"]]
    ended = [f"The run was ended early. Not measured: {'; '.join(missing)}."] if missing else []
    return "\n\n".join([*warning, *ended, *blocks])


def render_page(result: dict[str, Any]) -> str:
    """The page of ``docs/benchmarks``.

    Args:
        result: From ``gpu.measure``.
    """
    env, device = result["environment"], result["device"]
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    card = f"{device['name']}, {device['bytes'] / GIB:.0f} GiB, CUDA {device['cuda']}" if "bytes" in device else "CPU"
    return "\n\n".join(
        [
            "# Training and editing on a GPU",
            f"`{result['command']}` at commit `{env['commit']}`, {env['month']}, {card}, Python {env['python']}, "
            f"{versions}. This page is written by that command, or from its result by `--render`. All weights are "
            "random.",
            render(result),
        ]
    )


def _matrices(result: dict[str, Any]) -> str:
    rates = ", ".join(f"{rate / TERA:.4g} at side {side}" for side, rate in result["matrix_rates"].items())
    return f"Products of square bfloat16 matrices, 10^12 operations a second: {rates}. The best counts as all."


def _training(result: dict[str, Any]) -> str:
    lines = [
        f"A training step, size={result['size']}, {result['resolution']} px, all exact switches, median of "
        f"{result['repeats']}:",
        "",
        "| batch size | tokens | step | seconds | examples/s | peak memory, GiB | 10^12 operations/s | share of rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['batch_size']} | {row['length']} | {row['name']} | {_step(row)} | "
        f"{row['operations_per_s'] / TERA:.4g} | {row['share']:.1%} |"
        for row in result["training"]
    ]
    best: dict[str, float] = {}
    for row in result["training"]:
        best[row["name"]] = max(row["share"], best.get(row["name"], 0.0))
    verdicts = [f"{share:.1%} with {name}, {_verdict(share, result['goal'])}" for name, share in best.items()]
    note = "Counted are matrix products, convolutions and fused attention, forward and backward, of what a step needs."
    return "\n".join([*lines, "", f"{note} The goal is {result['goal']:.0%} of the rate: {'; '.join(verdicts)}."])


def _verdict(share: float, goal: float) -> str:
    return "reached" if share >= goal else "missed"


def _step(row: dict[str, float]) -> str:
    return f"{row['seconds']:.4g} | {row['examples_per_s']:.4g} | {row['peak_bytes'] / GIB:.2f}"


def _switches(result: dict[str, Any]) -> str:
    lines = [
        f"One thing changed at a time, batch size {result['switches_batch_size']}. Time and memory over those of the "
        "first row of the same side; `yardstick` is the released code's step, written down plainly. The share is of "
        "the operations which the step needs: fewer with caches, and none for what is computed a second time.",
        "",
        "| side | step | seconds | examples/s | peak memory, GiB | time | memory | share of rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    first: dict[str, dict[str, float] | None] = {}
    for row in sorted(result["switches"], key=lambda row: row["side"]):
        step, base = row["step"], first.setdefault(row["side"], row["step"])
        if step is None:
            lines.append(f"| {row['side']} | {row['name']} | does not fit | | | | | |")
            continue
        ratios = [f"{step[key] / base[key]:.2f}" if base else "" for key in ("seconds", "peak_bytes")]
        share = f"{step['share']:.1%}" if "share" in step else ""
        lines.append(f"| {row['side']} | {row['name']} | {_step(step)} | {ratios[0]} | {ratios[1]} | {share} |")
    return "\n".join(lines)


def _edit(result: dict[str, Any]) -> str:
    tokens = result["tokens"]
    lines = [
        f"An edit at {result['edit_side']} px in bfloat16, {tokens['prompt']} tokens of prompt and {tokens['written']} "
        "dictated ones written, seconds:",
        "",
        "| edit | steps | instruction on the image | text | painting | whole |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["edit"]:
        seconds = " | ".join(f"{row[key]:.4g}" for key in ("text_s", "painting_s", "whole_s"))
        lines.append(f"| {row['name']} | {row['steps']} | {row['instruction']} | {seconds} |")
    return "\n".join(lines)
