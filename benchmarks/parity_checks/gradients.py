"""Gradients of a training step: the norm of every tensor, and those that are recorded in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mgie_lit.checkpoints.names.reference import reference_name
from parity_checks.rows import Table

if TYPE_CHECKING:
    from parity_checks.bundle import Bundle
    from parity_checks.model import Rebuilt

PARTS = ("embed_tokens", "lm_head", "edit_head", "unet")  # components of the reference's names
SMALL = 1e-4  # of the largest norm; a gradient that is zero but for rounding is compared with this instead of itself
_PREFIX = "grad."
_ROWS = {"embed_rows": "model.embed_tokens.weight", "lm_head_rows": "lm_head.weight"}
_EXPECTED = ("v0", "v1")  # steps whose gradients a bundle records


def has_gradients(bundle: Bundle, name: str, recorded: dict[str, Tensor]) -> bool:
    """Whether gradients of a step are recorded anywhere."""
    in_file = any(key.startswith(_PREFIX) for key in recorded)
    return in_file or bool(bundle.gradient_norms(name)) or "grad_norm" in bundle.results.get(name, {})


def check_gradients(rebuilt: Rebuilt, name: str, recorded: dict[str, Tensor], table: Table) -> None:
    """Gradients that the editor's parameters hold now, after the step's backward pass.

    Args:
        rebuilt: After the backward pass.
        name: Of the step.
        recorded: What is recorded of it; empty where its file is missing.
        table: Gets the rows; none for a step without gradients.
    """
    group = f"gradients {name}"
    norms = rebuilt.bundle.gradient_norms(name)
    if not recorded or not has_gradients(rebuilt.bundle, name, recorded):
        if norms or name.split("_")[0] in _EXPECTED:
            table.absent(group, "gradient norm of every tensor", f"no train_{name}.safetensors or no gradients for it")
        return
    ours = {
        reference_name(own): parameter.grad
        for own, parameter in rebuilt.editor.named_parameters()
        if parameter.grad is not None
    }
    _check_norms(group, {key: float(grad.double().norm()) for key, grad in ours.items()}, norms, table)
    _check_recorded(group, ours, recorded, table)
    _check_totals(group, rebuilt, name, ours, table)


def _check_norms(group: str, ours: dict[str, float], recorded: dict[str, float], table: Table) -> None:
    if not recorded:
        table.absent(group, "gradient norm of every tensor", "no file with norms")
        return
    table.exact(group, "tensors with a gradient", sorted(ours), sorted(recorded), note=f"{len(recorded)} tensors")
    floor = SMALL * max(recorded.values())
    apart = {name: abs(ours[name] - norm) / max(abs(norm), floor) for name, norm in recorded.items() if name in ours}
    for part in PARTS:
        names = [name for name in apart if part in name.split(".")]
        if names:
            worst = max(names, key=apart.__getitem__)
            note = f"{len(names)} tensors, worst {worst}"
            table.judge(group, f"gradient norm of every tensor, {part}", apart[worst], note=note)


def _check_recorded(group: str, ours: dict[str, Tensor], recorded: dict[str, Tensor], table: Table) -> None:
    """Whole gradients, and rows of those of the vocabulary."""
    rows = recorded.get(f"{_PREFIX}rows")
    for key, theirs in recorded.items():
        name = key.removeprefix(_PREFIX)
        if not key.startswith(_PREFIX) or name == "rows":
            continue
        if name in _ROWS:
            whole = ours.get(_ROWS[name])
            mine = None if rows is None or whole is None else whole[rows.long()]
        else:
            mine = ours.get(name)
        table.compare(group, f"gradient of {name}", mine, theirs)


def _check_totals(group: str, rebuilt: Rebuilt, name: str, ours: dict[str, Tensor], table: Table) -> None:
    """Norms over parts and rows, as the manifest has them."""
    entry = rebuilt.bundle.results.get(name, {})
    for part, theirs in entry.get("grad_norm", {}).items():
        table.compare(group, f"norm over {part}", part_norm(ours, part), theirs)
    if "grad_norm_total" in entry:
        table.compare(group, "norm over all", part_norm(ours, None), entry["grad_norm_total"])
    words = ours.get(_ROWS["embed_rows"])
    if words is None:
        return
    norms, prompt = words.norm(dim=1), rebuilt.guide.prompt
    for key, label, value in (
        ("embed_rows_with_grad", "words with a gradient", int((norms > 0).sum())),
        ("embed_unk_row_grad", "gradient of <unk>", float(norms[prompt.tokenizer.pad_token_id])),
        ("im_patch_row_grad", "gradient of <im_patch>", float(norms[prompt.image_patch_id])),
    ):
        if key in entry:
            table.exact(group, label, value, entry[key])


def part_norm(tensors: dict[str, Tensor], part: str | None) -> float:
    """Norm of all tensors of a part together; None = of all parts."""
    chosen = [tensor for name, tensor in tensors.items() if part is None or part in name.split(".")]
    return float(torch.stack([tensor.double().norm() for tensor in chosen]).norm()) if chosen else 0.0
