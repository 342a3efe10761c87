"""Speed and memory of a training step and an edit on a GPU, beside the rate of matrix products that the card reaches.

    python benchmarks/gpu.py --size llava_7b [--json FILE] [--markdown FILE]

The weights are random and are drawn on the card. A step is one of ``trainer.precision=bf16-mixed`` with frozen matrices
in bfloat16: losses, backward, clipping, AdamW. Measured are

- products of square bfloat16 matrices: the rate that everything else is compared with;
- the step at batch sizes 1, 2, 4 ... until one does not fit, with all exact switches and no caches;
- at one batch size: the released code's step (``reference_step.py``) with one exact switch turned on at a time, and
  ours with caches, with new rows alone, and with every option of ``compute``;
- an edit in bfloat16, plain and with the preset ``fast``, split into text and painting, of a first and a further
  instruction on the image.

``--device cpu --size tiny`` runs all of it where there is no GPU, to see that it works; its numbers say nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
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
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_module
from mgie_lit.editor import Editor
from mgie_lit.functional.operations import OperationCount
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.lowering import lower_frozen
from mgie_lit.models.recompute import RecomputedLlamaLayer
from mgie_lit.sampling.presets import fast
from mgie_lit.training.compute import BF16_MIXED, Compute

GOAL = 0.5  # share of the measured rate, in training with the exact switches
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


def count_operations(case: Case) -> int:
    """Of our step, forward and backward, as the throughput of a training counts them."""
    with OperationCount() as count:
        in_bfloat16(case, our_step(case))().backward()  # type: ignore[no-untyped-call]
    case.editor.zero_grad(set_to_none=True)
    return count.total


def measure_training(
    clock: Clock, editor: Editor, config: DictConfig, rate: float, largest: int
) -> list[dict[str, float]]:
    """A step with all exact switches at growing batch sizes, until one does not fit.

    Args:
        clock: Times it.
        editor: Trains.
        config: Of the editor.
        rate: Operations a second that count as all.
        largest: Batch size to end with.
    """
    rows, size = [], 1
    while size <= largest:

        def step(size: int = size) -> dict[str, float]:
            case = make_batch(editor, config, size)
            measured = measure_step(clock, case, our_step(case))
            return {"length": case.batch.input_ids.shape[1], **measured, "operations": count_operations(case)}

        row = fitting(clock, step)
        if row is None:
            break
        operations = row["operations"] / row["seconds"]
        rows.append({"batch_size": size, **row, "operations_per_s": operations, "share": operations / rate})
        size *= 2
    return rows


@contextmanager
def computed(editor: Editor, compute: Compute) -> Iterator[None]:
    """Let an editor compute its steps in another way for a while."""
    compute.arrange(editor)
    compute.begin(editor, (), BF16_MIXED)
    try:
        yield
    finally:
        for part in editor.modules():
            if isinstance(part, RecomputedLlamaLayer):
                part.__class__ = LlamaDecoderLayer
            part._compiled_call_impl = None
        editor.unet.disable_gradient_checkpointing()


def measure_switches(
    clock: Clock, editor: Editor, config: DictConfig, batch_size: int, backend: str
) -> list[dict[str, Any]]:
    """Steps of one batch size, each of both sides' first and then with one thing changed; None = does not fit.

    Args:
        clock: Times them.
        editor: Trains.
        config: Of the editor.
        batch_size: Examples.
        backend: Of ``compute.compile_unet``.
    """
    case = fitting(clock, lambda: make_batch(editor, config, batch_size))
    if case is None:
        return []
    guide, as_it_is = cast("MLLMGuide", editor.guide), Compute()
    ours = {
        OURS: (False, "all", as_it_is),
        OURS_CACHED: (True, "all", as_it_is),
        OURS_NEW_ROWS: (True, "new_rows", as_it_is),
        "compute.checkpoint_language_model": (False, "all", Compute(checkpoint_language_model=True)),
        "compute.checkpoint_unet": (False, "all", Compute(checkpoint_unet=True)),
        f"compute.compile_unet={backend}": (False, "all", Compute(compile_unet=backend)),
    }
    rows: list[dict[str, Any]] = []
    for name in (YARDSTICK, *SWITCHES):
        step = plain_step(case, [] if name == YARDSTICK else [name])
        measured = fitting(clock, lambda step=step, name=name: measure_step(clock, case, step, fused=name == FUSED))  # type: ignore[misc]
        rows.append({"side": YARDSTICK, "name": name, "step": measured})
    for name, (cached, train_embeddings, compute) in ours.items():
        guide.train_embeddings = train_embeddings
        with computed(editor, compute):
            step = our_step(case, cached=cached)
            measured = fitting(clock, lambda step=step: measure_step(clock, case, step))  # type: ignore[misc]
        rows.append({"side": "ours", "name": name, "step": measured})
    guide.train_embeddings = "all"
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
    for name, options in {"plain": plain, "fast": fast(plain, edit.case.editor.scheduler)}.items():
        for instruction, kept in {"first": None, "further": memory}.items():
            text = float(np.median(clock.seconds(lambda kept=kept: our_text(edit, memory=kept))))  # type: ignore[misc]
            edit.guide.memory = kept
            whole = float(np.median(clock.seconds(lambda options=options: our_edit(edit, options))))  # type: ignore[misc]
            edit.guide.memory = None
            row = {"name": name, "instruction": instruction, "steps": options.num_inference_steps}
            rows.append({**row, "text_s": text, "painting_s": whole - text, "whole_s": whole})
    return rows


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain values."""
    device = torch.device(options.device)
    where, clock, config = environment(), Clock(device, options.repeats), case_config(options.size)
    rates = matrix_rates(clock)
    editor = make_editor(config, device)
    training = measure_training(clock, editor, config, max(rates.values()), options.max_batch_size)
    switches = measure_switches(clock, editor, config, options.batch_size, options.compile)
    clock.forget()
    case = make_batch(editor, config, 1)
    editor.to(torch.bfloat16).eval()
    edit = edit_case(case, options.side)
    steps = int(config.sampler.options.num_inference_steps)
    return {
        "size": options.size,
        "resolution": int(config.size.resolution),
        "matrix_rates": rates,
        "goal": GOAL,
        "training": training,
        "switches": switches,
        "switches_batch_size": options.batch_size,
        "edit": measure_edit(clock, edit, steps),
        "edit_side": options.side,
        "tokens": {"prompt": len(edit.prompt), "written": len(edit.words)},
        "repeats": options.repeats,
        "device": _described(device),
        "environment": where,
    }


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
    parser.add_argument("--max-batch-size", type=int, default=512, help="where growing batches end, if all fit")
    parser.add_argument("--side", type=int, default=512, help="px of the edited picture")
    parser.add_argument("--compile", default="inductor", help="backend of compute.compile_unet")
    parser.add_argument("--repeats", type=int, default=5, help="of everything that is timed")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--markdown", type=Path, help="write the page of docs/benchmarks to this file")
    options = parser.parse_args()
    if options.device == "cpu" and options.size != "tiny":
        parser.error(f"--device cpu: expected --size tiny, a trial that measures nothing, got --size {options.size}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"--device cuda: expected a GPU that CUDA finds, got none (torch {torch.__version__}); run this on a "
            "machine with one, or try the script with --device cpu --size tiny"
        )
    result = measure(options)
    print(render(result))
    command = command_of(__file__)
    write_files({options.json: json.dumps(result, indent=1), options.markdown: render_page(result, command)})


if __name__ == "__main__":
    main()
