"""Training steps with recorded draws: what passes through the parts, and the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mgie_lit.types import EditBatch, EditExample, EditLosses
from parity_checks.bundle import TRAIN_MANIFEST, NotRecorded, is_step
from parity_checks.gradients import check_gradients, has_gradients
from parity_checks.model import Rebuilt
from parity_checks.rows import Table, slice_starts
from parity_checks.text import TRUNCATED, truncated_batch
from parity_checks.watch import Seen, watch

GROUP = "training"
SEPARATOR = "ASSISTANT: "  # in a text, it makes the released code train no word of it


@dataclass(frozen=True)
class Step:
    """One of our training steps beside what is recorded of it."""

    name: str
    recorded: dict[str, Tensor]
    entry: Mapping[str, Any]  # of the manifest
    seen: Seen
    losses: EditLosses
    logits: Tensor  # (B, S, vocabulary)


_LOSSES: dict[str, Callable[[Step], Tensor | None]] = {
    "loss_ce": lambda step: step.losses.loss_lm,
    "loss_edit": lambda step: step.losses.loss_edit,
    "loss": lambda step: step.losses.loss,
}
_ALWAYS: dict[str, tuple[str, Callable[[Step], Tensor]]] = {
    "llm_slice": ("[IMG] slice", lambda step: step.seen.slices[0]),
    "unet_in": ("UNet input", lambda step: step.seen.unet_inputs[0]),
    "unet_cond_mean_std": ("UNet condition, mean and std", lambda step: _mean_std(step.seen.unet_conditions[0])),
    "unet_out": ("UNet output", lambda step: step.seen.unet_outputs[0]),
}
# The batch is the same in all steps, so what does not depend on the draws is recorded in one of them.
_SOMEWHERE: dict[str, tuple[str, Callable[[Step], Tensor]]] = {
    "vision_sel": ("vision features", lambda step: step.seen.vision[0]),
    "img_emb": ("projected image features", lambda step: step.seen.image_features[0]),
    "inputs_embeds": ("spliced embeddings", lambda step: step.seen.embeddings[0]),
    "hidden": ("last hidden states", lambda step: step.seen.hidden[0]),
    "logits_head": ("logits, first words", lambda step: step.logits[..., : step.recorded["logits_head"].shape[-1]]),
    "logits_img_cols": ("logits, last words", lambda step: step.logits[..., -_last(step, "logits_img_cols") :]),
    "logits_lse": ("logits, log-sum-exp", lambda step: step.logits.logsumexp(-1)),
    "edit_emb": ("[IMG] embeddings", lambda step: step.seen.visual_embeddings[0][None]),
    "hid_edit": ("edit head output", lambda step: step.seen.conditions[0]),
    "hid_null": ("null condition", lambda step: step.seen.conditions[1].expand_as(step.recorded["hid_null"])),
    "vae_inp_mode": ("VAE mode of the source", lambda step: step.seen.distributions[0].mode()),
    "vae_ans_mean": ("VAE mean of the target", lambda step: step.seen.distributions[1].mean),
    "vae_ans_std": ("VAE std of the target", lambda step: step.seen.distributions[1].std),
}


def check_steps(rebuilt: Rebuilt, table: Table) -> None:
    """Every recorded training step, with the gradients of those that have them recorded."""
    found: set[str] = set()
    for name in rebuilt.bundle.training_steps():
        group = f"{GROUP} {name}"
        with table.guard(group, "the whole step"):
            recorded = rebuilt.bundle.step_tensors(name)
            found |= recorded.keys()
            if recorded:
                _check_step(rebuilt, name, recorded, table)
            else:
                for what in ("losses", *(label for label, _ in _ALWAYS.values())):
                    table.absent(group, what, f"no train_{name}.safetensors")
                check_gradients(rebuilt, name, recorded, table)
        rebuilt.editor.zero_grad(set_to_none=True)
    for key, (label, _) in _SOMEWHERE.items():
        if key not in found:
            table.absent(f"{GROUP}, any step", label, f"no step holds {key}")


def check_ignored_text(rebuilt: Rebuilt, table: Table) -> None:
    """Instruction loss where a text holds a separator; its words are not recorded, and do not count."""
    group, entry = f"{GROUP} with a separator in a text", _entry_like(rebuilt, "both", "only_bad")
    with table.guard(group, "instruction loss"):
        plain = next((e["p"] for n, e in rebuilt.bundle.results.items() if is_step(n, "v0") and "p" in e), None)
        if entry is None or plain is None:
            raise NotRecorded(f"not in {TRAIN_MANIFEST}")
        pixels = rebuilt.batch.mllm_pixels
        assert pixels is not None
        samples = list(enumerate(rebuilt.examples))
        odd = [
            index for index, starts in enumerate(zip(plain, entry["both"]["p"], strict=False)) if len(set(starts)) > 1
        ]
        if len(odd) != 1:  # a separator moves the slice's start, unless the start is clamped to the end anyway
            raise NotRecorded("which sample holds the separator")
        examples = [_with_separator(example) if index in odd else example for index, example in samples]
        for key, chosen in (("both", list(range(len(examples)))), ("only_bad", odd)):
            batch = rebuilt.collator([examples[index] for index in chosen])
            batch.mllm_pixels = pixels[chosen]
            with torch.no_grad():
                losses = rebuilt.guide.losses(batch)
            table.compare(group, f"instruction loss, {key}", losses.loss_lm, entry[key].get("loss_ce"))


def check_half_tower(rebuilt: Rebuilt, table: Table) -> None:
    """Losses of the first step with a vision tower in float16, as the released training has it."""
    group, recorded = f"{GROUP} with a float16 vision tower", rebuilt.bundle.results.get("fp32_fp16vision")
    with table.guard(group, "losses"):
        if not isinstance(recorded, Mapping):
            raise NotRecorded(f"not in {TRAIN_MANIFEST}")
        first = next(name for name in rebuilt.bundle.training_steps() if is_step(name, "v0"))
        with _half_tower(rebuilt), torch.no_grad():
            step = run_step(rebuilt, first, rebuilt.bundle.step_tensors(first), rebuilt.batch)
        for key, ours in _LOSSES.items():
            table.compare(group, key, ours(step), recorded.get(key))


def run_step(rebuilt: Rebuilt, name: str, recorded: dict[str, Tensor], batch: EditBatch) -> Step:
    """Our step with the draws of a recorded one; its losses keep their graph where gradients are on."""
    entry = rebuilt.bundle.results.get(name, {})
    draws = rebuilt.draws(name, recorded, entry)
    with watch(rebuilt.editor) as seen:
        losses = rebuilt.editor.losses(batch, draws, rebuilt.module.objective)
    with torch.no_grad():
        logits = rebuilt.guide.mllm.logits(seen.hidden[0])
    return Step(name, recorded, entry, seen, losses, logits)


def _check_step(rebuilt: Rebuilt, name: str, recorded: dict[str, Tensor], table: Table) -> None:
    group = f"{GROUP} {name}"
    batch = rebuilt.batch
    if is_step(name, TRUNCATED):
        if "input_ids" not in recorded:
            raise NotRecorded(f"no input_ids of {name}")
        short = truncated_batch(rebuilt, recorded["input_ids"].shape[1])
        pictures = {key: tensor for key, tensor in rebuilt.bundle.inputs.items() if key != "attention_mask"}
        batch = rebuilt.with_recorded(short, pictures | recorded)
    with torch.set_grad_enabled(has_gradients(rebuilt.bundle, name, recorded)):
        step = run_step(rebuilt, name, recorded, batch)
    for key, (label, ours) in _SOMEWHERE.items():
        if key in recorded:
            table.compare(group, label, ours(step), recorded[key])
    if "logits_argmax" in recorded:
        table.judge(group, "logits, likeliest word", _argmax_gap(step.logits, recorded["logits_argmax"]))
    for key, (label, ours) in _ALWAYS.items():
        table.compare(group, label, ours(step) if key in recorded else None, recorded.get(key))
    for key, loss in _LOSSES.items():
        theirs = recorded[key].flatten()[0] if key in recorded else step.entry.get(key)
        table.compare(group, key, loss(step), theirs)
    _check_choices(group, step, table)
    if step.losses.loss.requires_grad:
        step.losses.loss.backward()  # type: ignore[no-untyped-call]
    check_gradients(rebuilt, name, recorded, table)


def _check_choices(group: str, step: Step, table: Table) -> None:
    """What was chosen from the draws and the ids, as far as the manifest says it."""
    seen = step.seen
    channels = seen.unet_outputs[0].shape[1]
    ours = {
        "p": ("slice start", slice_starts(seen.hidden[0], seen.slices[0])),
        "cond_is": ("which condition", _kinds(seen)),
        "image_latent_zeroed": ("image dropped", [not row.any() for row in seen.unet_inputs[0][:, channels:]]),
    }
    for key, (label, value) in ours.items():
        if key in step.entry:
            table.exact(group, label, value, step.entry[key])


def _kinds(seen: Seen) -> list[str]:
    """``edit`` or ``null`` for each row that the UNet got."""
    null = seen.conditions[1][0]
    return ["null" if torch.equal(row, null) else "edit" for row in seen.unet_conditions[0]]


def _mean_std(condition: Tensor) -> Tensor:
    rows = condition.flatten(1)
    return torch.cat([rows.mean(1), rows.std(1)])


def _last(step: Step, key: str) -> int:
    return step.recorded[key].shape[-1]


def _argmax_gap(logits: Tensor, recorded: Tensor) -> float:
    """By how much the recorded likeliest words are not ours; rounding decides between words that are as likely."""
    chosen = logits.gather(-1, recorded[..., None].long())[..., 0]
    return float((logits.amax(-1) - chosen).max() / logits.abs().max())


def _entry_like(rebuilt: Rebuilt, *keys: str) -> Mapping[str, Any] | None:
    """The first entry of the manifest's results that has all of these keys."""
    entries = (entry for entry in rebuilt.bundle.results.values() if isinstance(entry, Mapping))
    return next((entry for entry in entries if all(key in entry for key in keys)), None)


def _with_separator(example: EditExample) -> EditExample:
    return replace(example, expressive_instruction=f"{SEPARATOR}{example.expressive_instruction}"[: len(SEPARATOR) + 1])


@contextmanager
def _half_tower(rebuilt: Rebuilt) -> Iterator[None]:
    """The vision tower in float16, as `build_editor` makes it for ``faults.half_vision_tower``."""
    mllm = rebuilt.guide.mllm
    tower = mllm.vision_tower
    mllm.vision_tower = deepcopy(tower).half()  # type: ignore[union-attr]
    try:
        yield
    finally:
        mllm.vision_tower = tower
