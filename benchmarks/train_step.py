"""CPU seconds of a training step against the released code's, written down plainly (``reference_step.py``).

    python benchmarks/train_step.py --size medium [--json FILE]      # a minute or two a round

Both sides train the same parts on the same batch with the same draws: losses, backward, clipping, AdamW. They take
turns within one process, so that a busy machine slows both; the ratio of each round counts. First their gradients are
compared. Then every exact switch is turned on alone in the plain step, which shows what each gives, and the parts of
the plain step are timed by themselves, which says how small the ratio could be with the same kernels: the share of what
no switch removes. Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from shared.measures import YARDSTICK, high_water_bytes, peak_bytes, ratio, seconds, spread
from shared.origin import write_files
from step_sides.case import Case, make_case
from step_sides.parts import Parts
from step_sides.sides import (
    FUSED,
    NOTHING,
    OURS,
    OURS_CACHED,
    OURS_NEW_ROWS,
    SIDES,
    SWITCHES,
    Step,
    adamw,
    our_step,
    plain_step,
    run_step,
)

from mgie_lit.guides.mllm import MLLMGuide

TOLERANCE = 1e-4  # of gradients, relative to the largest
GOALS = {OURS: 0.80, OURS_CACHED: 0.55, OURS_NEW_ROWS: 0.50}


def largest_difference(case: Case, ours: Step, theirs: Step) -> tuple[float, str]:
    """Of all gradients, relative to each tensor's largest, and where it is."""
    sides = []
    for losses in (ours, theirs):
        case.editor.zero_grad(set_to_none=True)
        losses().backward()  # type: ignore[no-untyped-call]
        named = case.editor.named_parameters()
        sides.append({name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None})
    case.editor.zero_grad(set_to_none=True)
    mine, plain = sides
    assert mine.keys() == plain.keys()
    floor = TOLERANCE * max(float(grad.abs().max()) for grad in plain.values())
    apart = {name: float((mine[name] - g).abs().max()) / max(float(g.abs().max()), floor) for name, g in plain.items()}
    worst = max(apart, key=apart.__getitem__)
    return apart[worst], worst


def measure(case: Case, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of a step of every variant, and of the parts of the plain step, round by round.

    Args:
        case: What is trained; its visual tokens' embeddings train alone afterwards.
        rounds: How often all take turns, after one round that does not count.

    Returns:
        By name; ``yardstick`` is the plain step, parts are those of ``Parts``.
    """
    plain, fused = adamw(case, fused=False), adamw(case, fused=True)
    guide, parts = cast("MLLMGuide", case.editor.guide), Parts(case)
    variants: dict[str, tuple[Step, torch.optim.Optimizer]] = {
        YARDSTICK: (plain_step(case), plain),
        **{name: (plain_step(case, [name]), fused if name == FUSED else plain) for name in SWITCHES},
        OURS: (our_step(case), fused),
        OURS_CACHED: (our_step(case, cached=True), fused),
        OURS_NEW_ROWS: (our_step(case, cached=True), fused),
    }
    times: dict[str, list[float]] = {name: [] for name in (*variants, *parts.calls)}
    for count in range(rounds + 1):
        for name, (losses, optimizer) in variants.items():
            guide.train_embeddings = "new_rows" if name == OURS_NEW_ROWS else "all"
            spent = seconds(lambda losses=losses, optimizer=optimizer: run_step(case, losses, optimizer))  # type: ignore[misc]
            if count:
                times[name].append(spent)
        run_step(case, variants[YARDSTICK][0], plain)  # gradients for the optimizer's part
        for name, call in parts.calls.items():
            spent = seconds(call)
            if count:
                times[name].append(spent)
    guide.train_embeddings = "all"
    return times


def bounds(case: Case, times: dict[str, list[float]]) -> dict[str, float]:
    """The smallest ratio that the switches allow, from the medians of the parts.

    What stays without caches: the language model, the UNet, the optimizer, the autoencoder, the layers of the tower
    that are read, the scores of labelled positions, and one null condition instead of one a sample. Caches take tower
    and autoencoder away; with new rows alone the language model needs no backward but for the last few tokens.
    """
    part = {name: float(np.median(times[name])) for name in Parts.names(times)}
    whole = sum(seconds for name, seconds in part.items() if name != "language model, forward")
    size, batch = len(case.batch), case.batch
    assert batch.label_positions is not None
    layers = case.editor.guide.mllm.vision_tower.config.num_hidden_layers  # type: ignore[union-attr]
    used = 1 - len([name for name in case.editor.guide.mllm.idle_patterns if "layers" in name]) / layers  # type: ignore[union-attr]
    labelled = len(batch.label_positions) / batch.labels[:, 1:].numel()
    trained_parts = part["scores and cross entropy"] * labelled + part["edit head"] * (size + 1) / (2 * size)
    always = trained_parts + part["UNet"] + part["optimizer"]
    frozen = part["autoencoder"] + part["vision tower"] * used
    return {
        OURS: (always + part["language model"] + frozen) / whole,
        OURS_CACHED: (always + part["language model"]) / whole,
        OURS_NEW_ROWS: (always + part["language model, forward"]) / whole,
    }


def run_only(case: Case, side: str) -> int:
    """Two steps of one side, or none; the process's peak in bytes."""
    losses = plain_step(case) if side == YARDSTICK else our_step(case)
    optimizer = adamw(case, fused=side != YARDSTICK)
    for _ in range(0 if side == NOTHING else 2):
        run_step(case, losses, optimizer)
    return high_water_bytes()


def report(case: Case, size: str, times: dict[str, list[float]], apart: float, peaks: dict[str, int]) -> dict[str, Any]:
    """Everything measured, as plain values."""
    median = {name: round(float(np.median(values)), 4) for name, values in times.items()}
    limit = bounds(case, times)
    return {
        "size": size,
        "ratio": ratio(times, OURS),
        "cpu_s": {"ours": median[OURS], "yardstick": median[YARDSTICK]},
        "switches": [{"name": name, "ratio": ratio(times, name)} for name in SWITCHES],
        "variants": [
            {"name": name, "ratio": ratio(times, name), "bound": round(limit[name], 3), "goal": goal}
            for name, goal in GOALS.items()
        ],
        "parts_s": {name: median[name] for name in Parts.names(times)},
        "gradient_difference": apart,
        "peak_memory": {**peaks, "ratio": round(peaks["ours"] / peaks["yardstick"], 3)},
        "batch": {"examples": len(case.batch), "length": case.batch.input_ids.shape[1], "labels": _num_labels(case)},
        "rounds": len(times[OURS]),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "diffusers")},
        "threads": torch.get_num_threads(),
    }


def _num_labels(case: Case) -> int:
    assert case.batch.label_positions is not None
    return len(case.batch.label_positions)


def render(result: dict[str, Any]) -> str:
    """The result as Markdown tables."""
    batch = result["batch"]
    lines = [
        f"size={result['size']}, {batch['examples']} examples of {batch['length']} tokens with {batch['labels']} "
        f"labels, {result['rounds']} rounds, {result['threads']} thread(s). The plain step takes "
        f"{result['cpu_s']['yardstick']:.2f} CPU seconds. Largest relative difference of a gradient: "
        f"{result['gradient_difference']:.1e}.",
        "",
        "| ours | CPU seconds over the plain step's, median [p10, p90] | bound | goal |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['name']} | {spread(row['ratio'])} | {row['bound']:.2f} | {row['goal']:.2f} |"
        for row in result["variants"]
    ]
    lines += ["", "| one switch alone, in the plain step | ratio |", "| --- | --- |"]
    lines += [f"| {row['name']} | {spread(row['ratio'])} |" for row in result["switches"]]
    lines += ["", "| part of the plain step | CPU seconds |", "| --- | --- |"]
    lines += [f"| {name} | {spent:.3f} |" for name, spent in result["parts_s"].items()]
    peak = result["peak_memory"]
    mebibytes = [f"{peak[side] / 2**20:.0f}" for side in SIDES]
    lines += [
        "",
        f"Peak memory of the process: {mebibytes[0]} MiB against {mebibytes[1]}, {peak['ratio']:.2f}; {mebibytes[2]} "
        "MiB of both are libraries, model and batch before the first step.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and fail where gradients differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="medium", choices=("tiny", "medium"), help="sizes of all parts")
    parser.add_argument("--batch-size", type=int, default=4, help="examples")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--only", choices=SIDES, help="two steps of one side; prints its peak memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = make_case(options.size, options.batch_size, "cpu")
    if options.only:
        print(run_only(case, options.only))
        return
    apart, where = largest_difference(case, our_step(case), plain_step(case))
    if not apart <= TOLERANCE:
        raise SystemExit(f"gradients differ by {apart:.1e} of the largest, in {where}; expected at most {TOLERANCE}")
    times = measure(case, options.rounds)
    arguments = ("--size", options.size, "--batch-size", str(options.batch_size))
    peaks = {side: peak_bytes(__file__, *arguments, "--only", side) for side in SIDES}
    result = report(case, options.size, times, apart, peaks)
    print(render(result))
    write_files({options.json: json.dumps(result, indent=1)})


if __name__ == "__main__":
    main()
