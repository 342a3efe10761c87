"""Speed and memory of a training step and an edit on a GPU, beside the rate of matrix products that the card reaches.

    python benchmarks/gpu.py --size llava_7b [--json FILE] [--markdown FILE]

The weights are random and are drawn on the card. A step is one of ``trainer.precision=bf16-mixed`` with frozen matrices
in bfloat16: losses, backward, clipping, AdamW. Measured are, in this order, and files are written after each:

- products of square bfloat16 matrices: the rate that everything else is compared with;
- the step with all exact switches, without caches and with them, at growing batch sizes until one does not fit;
- at one batch size: ours with caches, with new rows alone, with less kept for the backward, and with the language model
  compiled;
- an edit in bfloat16, plain and with the preset ``fast``, split into text and painting, of a first and a further
  instruction on the image;
- the released code's step (``reference_step.py``) with one exact switch turned on at a time;
- ours with all that can be compiled.

``--device cpu --size tiny`` runs all of it where there is no GPU, to see that it works; its numbers say nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from edit_sides.sides import EditCase, edit_case, our_edit, our_options, our_text
from gpu_parts.clock import Clock, fitting, matrix_rates
from gpu_parts.table import render, render_page
from hydra.utils import instantiate
from omegaconf import DictConfig
from shared.measures import YARDSTICK, high_water_bytes
from shared.origin import command_of, environment, write_files
from step_sides.case import Case, case_config, fill_case
from step_sides.sides import (
    FUSED,
    OURS,
    OURS_CACHED,
    OURS_NEW_ROWS,
    SWITCHES,
    Step,
    adamw,
    our_step,
    plain_step,
    run_step,
)

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_module
from mgie_lit.editor import Editor
from mgie_lit.functional.operations import OperationCount
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.lowering import lower_frozen
from mgie_lit.models.training_layers import plain_layers
from mgie_lit.sampling.presets import fast
from mgie_lit.training.compute import AS_IT_IS, BF16_MIXED, Compute

GOAL = 0.5  # share of the measured rate, in training with the exact switches
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
FURTHER = "make the photo darker"


def make_editor(config: DictConfig, device: torch.device) -> Editor:
    """Random weights, drawn on the device; frozen matrices in bfloat16 as ``compute.frozen_in_bf16`` has them.

    They are drawn in float32, 30 GiB of the device's memory at 7B, half of which is free again afterwards.
    """
    with torch.device(device):
        editor = build_editor(config)
    editor.scheduler = instantiate(config.sampler.scheduler, _convert_="all")  # solvers want its tables on the host
    build_module(config, editor)  # says what trains
    lower_frozen(editor, {name for name, parameter in editor.named_parameters() if not parameter.requires_grad})
    return editor


def make_batch(editor: Editor, config: DictConfig, batch_size: int) -> Case:
    """A batch of made-up pictures for an editor whose frozen matrices are bfloat16."""
    with torch.autocast(editor.device.type, torch.bfloat16):
        return fill_case(editor, config, batch_size)


def in_bfloat16(case: Case, losses: Step) -> Step:
    """Losses under autocast."""

    def lowered() -> torch.Tensor:
        with torch.autocast(case.editor.device.type, torch.bfloat16):
            return losses()

    return lowered


def measure_step(clock: Clock, case: Case, losses: Step, *, fused: bool = True) -> dict[str, float]:
    """Seconds, examples a second and peak memory of a step."""
    clock.forget()
    optimizer, lowered = adamw(case, fused=fused), in_bfloat16(case, losses)
    try:
        seconds = float(np.median(clock.seconds(lambda: run_step(case, lowered, optimizer))))
    finally:
        case.editor.zero_grad(set_to_none=True)
    return {"seconds": seconds, "examples_per_s": len(case.batch) / seconds, "peak_bytes": high_water_bytes()}


def count_operations(case: Case, *, cached: bool = False) -> int:
    """Of our step, forward and backward, as the throughput of a training counts them."""
    with OperationCount() as count:
        in_bfloat16(case, our_step(case, cached=cached))().backward()  # type: ignore[no-untyped-call]
    case.editor.zero_grad(set_to_none=True)
    return count.total


def measure_training(
    clock: Clock, editor: Editor, config: DictConfig, rate: float, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """A step with all exact switches at growing batch sizes, until one does not fit; without caches and with them.

    Args:
        clock: Times it.
        editor: Trains.
        config: Of the editor.
        rate: Operations a second that count as all.
        sizes: Batch sizes, growing.
    """
    rows: list[dict[str, Any]] = []
    for size in sizes:
        case = fitting(clock, lambda size=size: make_batch(editor, config, size))  # type: ignore[misc]
        if case is None:
            break
        both = [_our_row(clock, case, name, rate, cached=name == OURS_CACHED) for name in (OURS, OURS_CACHED)]
        length = case.batch.input_ids.shape[1]
        fit = [row for row in both if row["step"] is not None]
        rows += [{"batch_size": size, "length": length, "name": row["name"], **row["step"]} for row in fit]
        if len(fit) < len(both):
            break
    return rows


def with_share(measured: dict[str, float], operations: int, rate: float) -> dict[str, float]:
    """A measured step with its operations, those of a second, and their share of a rate."""
    rate_reached = operations / measured["seconds"]
    return {**measured, "operations": operations, "operations_per_s": rate_reached, "share": rate_reached / rate}


@contextmanager
def computed(editor: Editor, compute: Compute) -> Iterator[None]:
    """Let an editor compute its steps in another way for a while."""
    compute.arrange(editor)
    compute.begin(editor, (), BF16_MIXED)
    try:
        yield
    finally:
        plain_layers(editor)
        for part in editor.modules():
            part._compiled_call_impl = None
        editor.unet.disable_gradient_checkpointing()


OURS_KEPT = {
    "compute.checkpoint_language_model": Compute(checkpoint_language_model=True),
    "compute.checkpoint_unet": Compute(checkpoint_unet=True),
}
WITH_GRAPH = {
    OURS: (False, "all"),
    OURS_CACHED: (True, "all"),
    OURS_NEW_ROWS: (True, "new_rows"),
}  # cached, what trains


def measure_ours(clock: Clock, case: Case, rate: float, backend: str) -> list[dict[str, Any]]:
    """Our step with caches, new rows alone, less kept, and a compiled language model; None = does not fit.

    Args:
        clock: Times it.
        case: Batch.
        rate: Operations a second that count as all.
        backend: Of ``torch.compile``.
    """
    guide, rows = cast("MLLMGuide", case.editor.guide), []
    for name, (cached, train_embeddings) in WITH_GRAPH.items():
        guide.train_embeddings = train_embeddings
        rows.append(_our_row(clock, case, name, rate, cached=cached))
    guide.train_embeddings = "all"
    rows += [_our_row(clock, case, name, rate, compute) for name, compute in OURS_KEPT.items()]
    compiled = f"{OURS_CACHED}, compute.compile_language_model={backend}"
    return [*rows, _our_row(clock, case, compiled, rate, Compute(compile_language_model=backend), cached=True)]


def measure_compiled(clock: Clock, case: Case, rate: float, backend: str) -> list[dict[str, Any]]:
    """Our step with all that can be compiled, and caches.

    Args:
        clock: Times it.
        case: Batch.
        rate: Operations a second that count as all.
        backend: Of ``torch.compile``.
    """
    name = f"{OURS_CACHED}, compute.compile_language_model={backend} compute.compile_unet={backend}"
    compute = Compute(compile_language_model=backend, compile_unet=backend)
    return [_our_row(clock, case, name, rate, compute, cached=True)]


def _our_row(
    clock: Clock, case: Case, name: str, rate: float, compute: Compute = AS_IT_IS, *, cached: bool = False
) -> dict[str, Any]:
    def step() -> dict[str, float]:
        operations = count_operations(case, cached=cached)
        with computed(case.editor, compute):
            return with_share(measure_step(clock, case, our_step(case, cached=cached)), operations, rate)

    return {"side": "ours", "name": name, "step": fitting(clock, step)}


def measure_yardstick(clock: Clock, case: Case) -> list[dict[str, Any]]:
    """The released code's step, as it is and then with one switch on; None = does not fit.

    Args:
        clock: Times it.
        case: Batch.
    """
    rows = []
    for name in (YARDSTICK, *SWITCHES):
        step = plain_step(case, [] if name == YARDSTICK else [name])
        measured = fitting(clock, lambda step=step, name=name: measure_step(clock, case, step, fused=name == FUSED))  # type: ignore[misc]
        rows.append({"side": YARDSTICK, "name": name, "step": measured})
    return rows


def measure_edit(clock: Clock, edit: EditCase, steps: int) -> list[dict[str, Any]]:
    """Seconds of text and painting, plain and ``fast``, of a first and a further instruction on an image.

    Args:
        clock: Times them.
        edit: In bfloat16, in eval mode.
        steps: Of the plain edit.
    """
    plain, memory = our_options(edit, steps), ImageMemory()
    our_text(edit, instruction=FURTHER, memory=memory)
    rows = []
    for instruction, kept in {"first": None, "further": memory}.items():
        text = float(np.median(clock.seconds(lambda kept=kept: our_text(edit, memory=kept))))  # type: ignore[misc]
        for name, options in {"plain": plain, "fast": fast(plain, edit.case.editor.scheduler)}.items():
            edit.guide.memory = kept
            whole = float(np.median(clock.seconds(lambda options=options: our_edit(edit, options))))  # type: ignore[misc]
            edit.guide.memory = None
            row = {"name": name, "instruction": instruction, "steps": options.num_inference_steps}
            rows.append({**row, "text_s": text, "painting_s": whole - text, "whole_s": whole})
    return rows


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Plain values, with one section more each time."""
    device = torch.device(options.device)
    clock, config = Clock(device, options.repeats), case_config(options.size)
    result: dict[str, Any] = {
        "command": command_of(__file__),
        "size": options.size,
        "resolution": int(config.size.resolution),
        "goal": GOAL,
        "repeats": options.repeats,
        "device": _described(device),
        "environment": environment(),
        "matrix_rates": matrix_rates(clock),
        "measured": [],
    }
    rate = max(result["matrix_rates"].values())
    editor = make_editor(config, device)
    result["training"] = measure_training(clock, editor, config, rate, options.batch_sizes)
    result["measured"].append("training")
    yield result
    case = fitting(clock, lambda: make_batch(editor, config, options.batch_size))
    if case is None:
        raise SystemExit(f"--batch-size: expected one that fits, got {options.batch_size}; take a smaller one")
    result |= {"switches_batch_size": options.batch_size}
    result |= {"switches": measure_ours(clock, case, rate, options.compile)}
    result["measured"].append("ours")
    yield result
    edit = edit_case(make_batch(editor.to(torch.bfloat16), config, 1), options.side)
    result |= {
        "edit": measure_edit(clock, edit, int(config.sampler.options.num_inference_steps)),
        "edit_side": options.side,
        "tokens": {"prompt": len(edit.prompt), "written": len(edit.words)},
    }
    result["measured"].append("edit")
    yield result
    del editor, case, edit
    clock.forget()
    case = make_batch(make_editor(config, device), config, options.batch_size)
    result["switches"] += measure_yardstick(clock, case)
    result["measured"].append("yardstick")
    yield result
    result["switches"] += measure_compiled(clock, case, rate, options.compile)
    result["measured"].append("compiled")
    yield result


def _described(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"type": device.type, "name": "CPU"}
    card = torch.cuda.get_device_properties(device)
    return {"type": device.type, "name": card.name, "bytes": card.total_memory, "cuda": torch.version.cuda}


def main() -> None:
    """Measure and print; exit status 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="llava_7b", choices=("tiny", "medium", "llava_7b"), help="sizes of all parts")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: with --size tiny, as a trial")
    parser.add_argument("--batch-size", type=int, default=4, help="examples of the steps that show switches")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=BATCH_SIZES, help="growing, until one does not fit"
    )
    parser.add_argument("--side", type=int, default=512, help="px of the edited picture")
    parser.add_argument("--compile", default="inductor", help="backend of compute.compile_*")
    parser.add_argument("--repeats", type=int, default=5, help="of everything that is timed")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--markdown", type=Path, help="write the page of docs/benchmarks to this file")
    parser.add_argument("--render", type=Path, metavar="JSON", help="measure nothing: write the page of a result again")
    options = parser.parse_args()
    if options.render:
        options.size, options.device = "tiny", "cpu"
    if options.device == "cpu" and options.size != "tiny":
        parser.error(f"--device cpu: expected --size tiny, a trial that measures nothing, got --size {options.size}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"--device cuda: expected a GPU that CUDA finds, got none (torch {torch.__version__}); run this on a "
            "machine with one, or try the script with --device cpu --size tiny"
        )
    results = [json.loads(options.render.read_text(encoding="utf-8"))] if options.render else measure(options)
    for result in results:
        write_files({options.json: json.dumps(result, indent=1), options.markdown: render_page(result)})
    print(render(result))


if __name__ == "__main__":
    main()
