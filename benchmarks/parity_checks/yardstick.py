"""The yardstick of the speed measurements against a recording: losses, gradients, words, conditions, images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from reference_step import Yardstick
from torch import Tensor

from mgie_lit.checkpoints.names.reference import reference_name
from parity_checks.bundle import Bundle, NotRecorded
from parity_checks.gradients import PARTS, part_norm
from parity_checks.inference import words_of
from parity_checks.model import Rebuilt, rebuild
from parity_checks.rows import Table
from parity_checks.sampler import PIPE, Sampling


def check_yardstick(bundle: Bundle) -> Table:
    """All training steps and edits that a recording holds, but those with cut rows.

    Args:
        bundle: With manifests and some steps and cases.

    Returns:
        One row a number.

    Raises:
        BundleError: The manifests make no model.
    """
    table = Table()
    rebuilt = rebuild(bundle, table)
    _ = rebuilt.module  # freezes what is frozen
    yardstick = Yardstick(rebuilt.editor.eval())
    for name in bundle.training_steps():
        recorded = bundle.step_tensors(name)
        if recorded and "input_ids" not in recorded:
            with table.guard(f"step {name}", "the whole step"):
                _check_step(rebuilt, yardstick, name, recorded, table)
    for name in bundle.inference_cases():
        with table.guard(f"edit {name}", "the whole edit"):
            _check_edit(rebuilt, yardstick, name, table)
    return table


def _check_step(rebuilt: Rebuilt, yardstick: Yardstick, name: str, recorded: dict[str, Tensor], table: Table) -> None:
    group, entry = f"step {name}", rebuilt.bundle.results.get(name, {})
    rebuilt.editor.zero_grad(set_to_none=True)
    losses = yardstick.losses(rebuilt.batch, rebuilt.draws(name, recorded, entry))
    for key in ("loss_ce", "loss_edit", "loss"):
        theirs = recorded[key].flatten()[0] if key in recorded else entry.get(key)
        table.compare(group, key, getattr(losses, key), theirs)
    if "grad_norm" in entry:
        losses.loss.backward()  # type: ignore[no-untyped-call]
        parameters = rebuilt.editor.named_parameters()
        grads = {reference_name(own): parameter.grad for own, parameter in parameters if parameter.grad is not None}
        for part in PARTS:
            table.compare(group, f"gradient norm over {part}", part_norm(grads, part), entry["grad_norm"].get(part))
    rebuilt.editor.zero_grad(set_to_none=True)


def _check_edit(rebuilt: Rebuilt, yardstick: Yardstick, name: str, table: Table) -> None:
    bundle, group = rebuilt.bundle, f"edit {name}"
    recorded, case = bundle.case_tensors(name), bundle.cases.get(name, {})
    if "prompt_ids" not in recorded or "input_image_u8" not in recorded:
        raise NotRecorded(f"no words or no picture of its own in infer_{name}.safetensors")
    pixels = rebuilt.guide.pixels([Image.fromarray(recorded["input_image_u8"].numpy())])
    assert pixels is not None
    with words_of(rebuilt, recorded):
        written = yardstick.write(recorded["prompt_ids"].tolist(), pixels)
        theirs = recorded["sequence"].tolist() if "sequence" in recorded else None
        if float(case.get("min_margin", 1.0)) > 0.01:
            table.exact(group, "ids", written.ids, theirs)
        if written.ids != theirs:
            return
        rows = recorded["EMB"][0] if "EMB" in recorded else None
        text, null = yardstick.condition(written, rows)
    table.compare(group, "condition", text, recorded.get("emb"))
    table.compare(group, "null condition", null, recorded.get("NULL", null))
    _check_image(rebuilt, yardstick, case, recorded, (text, null), table, group)


def _check_image(
    rebuilt: Rebuilt,
    yardstick: Yardstick,
    case: Mapping[str, Any],
    recorded: dict[str, Tensor],
    conditions: tuple[Tensor, Tensor],
    table: Table,
    group: str,
) -> None:
    sampling = Sampling.of(rebuilt, case, recorded, PIPE)
    if sampling is None or "image_float" not in sampling.recorded:
        table.absent(group, "image", "none is recorded")
        return
    image = sampling.recorded["image_float"]
    pixels = recorded["input_image_u8"]
    if tuple(pixels.shape[:2]) != tuple(image.shape[:2]):
        return  # resized there; the sizes are the parity checks' matter
    source = (2.0 * pixels.double() / 255.0 - 1.0).float().permute(2, 0, 1)[None]
    noise = list(sampling.numbered("step_noise.").values())
    options = sampling.options
    made = yardstick.paint(
        source,
        *conditions,
        sampling.recorded["latents"],
        num_steps=options.num_inference_steps,
        guidance=(options.guidance_scale, options.image_guidance_scale),
        scheduler=sampling.scheduler,
        noise=noise or None,
    )
    with torch.no_grad():
        table.compare(group, "image", made[0].permute(1, 2, 0), image)
