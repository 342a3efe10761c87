"""CPU seconds of an edit against the released code's, written down plainly (``reference_step.py``).

    python benchmarks/edit.py --size medium [--json FILE] [--markdown FILE]      # some minutes a round

Both sides edit the same picture with the same weights, words and noise, and take turns within one process, so that a
busy machine slows both; the ratio of each round counts. The weights are random, so the words are dictated to both
sides, whose language models compute their scores all the same. First it is seen that both give the same image. Then

- prompt and text, up to the condition, with every switch turned on alone in the plain one;
- a whole edit with the same image out, and how small its ratio could be with the same kernels;
- the preset ``fast`` beside the plain edit at its own number of steps, with the distance of the two images;
- the shipped weights with many steps, their own and ``fast``, scored on the test photographs.

Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edit_sides.parts import Parts
from edit_sides.sides import (
    SWITCHES,
    EditCase,
    levels_apart,
    make_edit_case,
    our_edit,
    our_options,
    our_text,
    plain_edit,
    plain_text,
)
from edit_sides.table import render, render_page
from PIL import Image
from shared.measures import YARDSTICK, high_water_bytes, peak_bytes, ratio
from shared.origin import command_of, environment, write_files
from step_sides.sides import NOTHING, SIDES

from mgie_lit.config.compose import compose_config
from mgie_lit.config.run import evaluate_run
from mgie_lit.functional.images import pil_to_unit
from mgie_lit.functional.similarity import l1_distance, ssim
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.models.layout import lay_for_editing
from mgie_lit.sampling.presets import fast

STEPS, MANY_STEPS = 10, 100  # of a whole edit; and what the released code's pipeline takes when nothing is said
LEVELS, TOLERANCE = 1, 1e-4  # largest differences: of images, of 255; of conditions, relative to the largest value
TEXT, AGAIN = "prompt and text", "prompt and text of a further instruction on the image"
EDIT, FAST = f"whole edit, {STEPS} steps", "preset fast"
GOALS = {TEXT: 0.70, AGAIN: None, EDIT: 0.90, FAST: 0.15}
OURS, PLAIN = "ours, ", "plain, "
WITHOUT_INTERVAL = "fast without its guidance interval"
SETTINGS = {  # of the shipped weights
    f"{MANY_STEPS} steps": [f"sampling.num_inference_steps={MANY_STEPS}"],
    "plain": [],
    "fast": ["sampling.preset=fast"],
}


@dataclass
class Times:
    """What took turns, by name, round by round."""

    cpu: dict[str, list[float]]
    wall: dict[str, list[float]]


def measure(edit: EditCase, parts: Parts, rounds: int) -> tuple[Times, dict[str, Image.Image]]:
    """Seconds of every variant and part, and the images of whole edits.

    Args:
        edit: What is edited.
        parts: Of the plain edit.
        rounds: How often all take turns, after a short edit of both sides that does not count.
    """
    plain_edit(edit, 1)
    our_edit(edit, our_options(edit, 1))
    quick = fast(our_options(edit, MANY_STEPS), edit.case.editor.scheduler)
    everywhere = replace(quick, guidance_interval=(0.0, 1.0))
    images: dict[str, Image.Image] = {}
    memory = ImageMemory()
    our_text(edit, instruction="make the photo darker", memory=memory)

    def draw(name: str, call: Callable[[], Image.Image]) -> Callable[[], object]:
        return lambda: images.__setitem__(name, call())

    variants: dict[str, Callable[[], object]] = {
        PLAIN + TEXT: lambda: plain_text(edit),
        **{name: lambda name=name: plain_text(edit, [name]) for name in SWITCHES},  # type: ignore[misc]
        OURS + TEXT: lambda: our_text(edit),
        OURS + AGAIN: lambda: our_text(edit, memory=memory),
        PLAIN + EDIT: draw(PLAIN + EDIT, lambda: plain_edit(edit, STEPS)),
        OURS + EDIT: draw(OURS + EDIT, lambda: our_edit(edit, our_options(edit, STEPS))),
        WITHOUT_INTERVAL: draw(WITHOUT_INTERVAL, lambda: our_edit(edit, everywhere)),
        OURS + FAST: draw(OURS + FAST, lambda: our_edit(edit, quick)),
        PLAIN + FAST: draw(PLAIN + FAST, lambda: plain_edit(edit, MANY_STEPS)),
        **parts.calls,
    }
    times = Times({name: [] for name in variants}, {name: [] for name in variants})
    for _ in range(rounds):
        for name, call in variants.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            times.cpu[name].append(time.process_time() - cpu)
            times.wall[name].append(time.perf_counter() - wall)
    return times, images


def check_equal(edit: EditCase) -> float:
    """Stop where the two sides, or a switch, do not give the same condition; the largest relative difference."""
    plain = torch.cat(plain_text(edit))
    apart = {name: float((torch.cat(plain_text(edit, [name])) - plain).abs().max()) for name in SWITCHES}
    apart["ours"] = float((torch.cat(our_text(edit)) - plain).abs().max())
    memory = ImageMemory()
    our_text(edit, instruction="another", memory=memory)
    apart["ours, again"] = float((torch.cat(our_text(edit, memory=memory)) - plain).abs().max())
    largest = max(apart.values()) / float(plain.abs().max())
    if not largest < TOLERANCE:
        raise SystemExit(f"conditions differ by {largest:.1e} of the largest value: {apart}")
    return largest


def closeness(images: dict[str, Image.Image]) -> dict[str, dict[str, float]]:
    """L1 and SSIM of images in few steps against that of many."""
    target = pil_to_unit(images[PLAIN + FAST])[None]
    rows = {
        f"{STEPS} steps of the model's own scheduler": OURS + EDIT,
        WITHOUT_INTERVAL: WITHOUT_INTERVAL,
        FAST: OURS + FAST,
    }
    unit = {name: pil_to_unit(images[image])[None] for name, image in rows.items()}
    return {name: {"l1": float(l1_distance(x, target)), "ssim": float(ssim(x, target))} for name, x in unit.items()}


def score_shipped(num_examples: int) -> list[dict[str, Any]]:
    """The shipped weights on test photographs, in three settings: metrics with intervals, and CPU seconds."""
    rows = []
    for name, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            overrides = [f"paths.run_dir={folder}/eval", f"data.num_examples.test={num_examples}", *settings]
            config = compose_config("eval", ["checkpoint=tiny", "save_images=false", "device=cpu", *overrides])
            start = time.process_time()
            out_dir = evaluate_run(config)
            spent = time.process_time() - start
            result = json.loads((out_dir / "metrics.json").read_text(encoding="utf-8"))
        steps = result["protocol"]["sampling"]["num_inference_steps"]
        metrics = {key: result["metrics"][key] for key in ("l1", "ssim")}
        copy = {key: result["copy"][key] for key in ("l1", "ssim")}
        rows.append({"name": name, "steps": steps, "metrics": metrics, "copy": copy, "cpu_s": round(spent, 1)})
    return rows


def run_only(edit: EditCase, side: str) -> int:
    """A short edit of one side, or none; the process's peak in bytes."""
    if side == YARDSTICK:
        plain_edit(edit, 2)
    elif side != NOTHING:
        edit.editor = edit.case.editor  # no copy: there is no other side
        lay_for_editing(edit.editor)
        our_edit(edit, our_options(edit, 2))
    return high_water_bytes()


def report(
    edit: EditCase,
    parts: Parts,
    measured: tuple[Times, dict[str, Image.Image]],
    *,
    size: str,
    peaks: dict[str, int],
    shipped: list[dict[str, Any]],
    condition_difference: float,
    where: dict[str, Any],
) -> dict[str, Any]:
    """Everything measured, as plain values."""
    times, images = measured
    cpu = {name: float(np.median(values)) for name, values in times.cpu.items()}
    bound = dict(zip((TEXT, EDIT), parts.bounds(cpu, STEPS), strict=True))
    against = {name: PLAIN + (TEXT if name == AGAIN else name) for name in GOALS}
    rows = [
        {
            "name": name,
            "ratio": ratio(times.cpu, OURS + name, against[name]),
            "wall_ratio": ratio(times.wall, OURS + name, against[name]),
            "cpu_s": {"ours": round(cpu[OURS + name], 3), "yardstick": round(cpu[against[name]], 3)},
            "bound": round(bound[name], 3) if name in bound else None,
            "goal": goal,
        }
        for name, goal in GOALS.items()
    ]
    return {
        "size": size,
        "rows": rows,
        "switches": [{"name": name, "ratio": ratio(times.cpu, name, PLAIN + TEXT)} for name in SWITCHES],
        "fast_switches": [
            {"name": "fewer steps, of DPM-Solver++", "ratio": ratio(times.cpu, WITHOUT_INTERVAL, PLAIN + FAST)},
            {"name": "guidance interval, beside it", "ratio": ratio(times.cpu, OURS + FAST, WITHOUT_INTERVAL)},
        ],
        "parts_s": {name: round(value, 3) for name, value in parts.seconds(cpu, STEPS).items()},
        "closeness": closeness(images),
        "shipped": shipped,
        "peak_memory": {**peaks, "ratio": round(peaks["ours"] / peaks[YARDSTICK], 3)},
        "levels_apart": levels_apart(images[PLAIN + EDIT], images[OURS + EDIT]),
        "condition_difference": condition_difference,
        "tokens": {"prompt": len(edit.prompt), "written": len(edit.words)},
        "steps": STEPS,
        "side": edit.image.width,
        "rounds": len(times.cpu[PLAIN + TEXT]),
        "environment": where,
    }


def main() -> None:
    """Measure, print, and fail where the sides do not give the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="medium", choices=("tiny", "medium"), help="sizes of all parts")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--examples", type=int, default=100, help="scored with the shipped weights; 0 = none")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--markdown", type=Path, help="write the page of docs/benchmarks to this file")
    parser.add_argument("--only", choices=SIDES, help="a short edit of one side; prints its peak memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = environment()  # before the checkout can change
    edit = make_edit_case(options.size)
    if options.only:
        print(run_only(edit, options.only))
        return
    difference, parts = check_equal(edit), Parts(edit)
    measured = measure(edit, parts, options.rounds)
    apart = levels_apart(measured[1][PLAIN + EDIT], measured[1][OURS + EDIT])
    if apart > LEVELS:
        raise SystemExit(f"images of {STEPS} steps differ by {apart} of 255; expected at most {LEVELS}")
    result = report(
        edit,
        parts,
        measured,
        size=options.size,
        peaks={side: peak_bytes(__file__, "--size", options.size, "--only", side) for side in SIDES},
        shipped=score_shipped(options.examples) if options.examples else [],
        condition_difference=difference,
        where=where,
    )
    print(render(result))
    command = "OMP_NUM_THREADS=1 " + command_of(__file__)
    write_files({options.json: json.dumps(result, indent=1), options.markdown: render_page(result, command)})


if __name__ == "__main__":
    main()
