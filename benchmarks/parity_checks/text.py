"""Ids of prompts and labels, from the texts alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import torch

from mgie_lit.prompts import EditPrompt
from mgie_lit.types import EditBatch
from parity_checks.bundle import DEMO_PROMPTS, TRAIN_INPUTS, NotRecorded, is_step
from parity_checks.model import Rebuilt
from parity_checks.rows import Table

GROUP, IMAGES = "text", "images"
FAST, SLOW = "fast", "slow"  # tokenizers of the demo; training has the slow one
TRUNCATED = "v5"
_OPENING = "if '"  # of the demo's question; the instruction is in quotes at its end


def check_training_text(rebuilt: Rebuilt, table: Table) -> None:
    """Ids, labels and mask of the training batch, and of the one that the reference cut at a length."""
    with table.guard(GROUP, "training ids and labels"):
        for key, check, ours in _ids(rebuilt.collated):
            recorded = rebuilt.bundle.inputs.get(key)
            theirs = None if recorded is None else recorded.long().tolist()
            table.exact(GROUP, f"training {check}", ours, theirs, note=_why(rebuilt, theirs, key))
    for name in rebuilt.bundle.training_steps():
        if is_step(name, TRUNCATED):
            with table.guard(GROUP, f"{name} ids and labels"):
                _check_truncated(rebuilt, name, table)


def check_training_images(rebuilt: Rebuilt, table: Table) -> None:
    """Pixels of the vision tower and of the autoencoder, from the bytes of the JPEG files."""
    recorded = rebuilt.bundle.inputs
    with table.guard(IMAGES, "pixels from the JPEG files"):
        batch = rebuilt.collated
        if not all(map(rebuilt.has_pictures, range(len(batch)))):
            raise NotRecorded(f"no jpeg.* in {TRAIN_INPUTS}")
        assert batch.source is not None
        assert batch.target is not None
        for key, check, ours in (
            ("images", "pixels of the vision tower", batch.mllm_pixels),
            ("p2p_inp_u8", "source at training resolution", (batch.source + 1.0) * 127.5),
            ("p2p_ans_u8", "target at training resolution", (batch.target + 1.0) * 127.5),
        ):
            table.compare(IMAGES, check, ours, recorded.get(key), note=_why(rebuilt, recorded.get(key), key))


def truncated_batch(rebuilt: Rebuilt, length: int) -> EditBatch:
    """The training batch as we make it with texts of at most ``length`` tokens."""
    with mock.patch.object(rebuilt.guide.prompt, "max_length", length):
        return rebuilt.collator(rebuilt.examples)


def check_demo_prompts(rebuilt: Rebuilt, table: Table) -> None:
    """Prompts of the demo in both tokenisations; the file names no instruction, the manifests or the ids have it."""
    recorded, prompt = rebuilt.bundle.json(DEMO_PROMPTS), rebuilt.guide.prompt
    known = [text[0] for text in rebuilt.bundle.texts]
    known += [case["instruction"] for case in rebuilt.bundle.cases.values() if "instruction" in case]
    if not recorded:
        for check in ("slow", "fast"):
            table.absent(GROUP, f"demo prompt, {check}", f"no {DEMO_PROMPTS}")
        return
    for key, theirs in recorded.items():
        with table.guard(GROUP, f"demo prompt, {key}"), tokenised(prompt, SLOW if SLOW in key else FAST):
            prompts = [prompt.prompt_ids(instruction) for instruction in dict.fromkeys(known)]
            ours = theirs if theirs in prompts else prompt.prompt_ids(_instruction(prompt, theirs))
            table.exact(GROUP, f"demo prompt, {key}", ours, theirs, note=f"{len(theirs)} ids")


def _instruction(prompt: EditPrompt, ids: list[int]) -> str:
    """What stands between the quotes of a recorded prompt that has the words before the image."""
    image = prompt.image_ids[0] if prompt.image_ids else None
    words = str(prompt.tokenizer.decode(ids[: ids.index(image)])) if image in ids else ""
    _, opened, rest = words.partition(_OPENING)
    instruction, closed, _ = rest.rpartition("'")
    if not (opened and closed):
        raise NotRecorded("neither the manifests nor the ids hold its instruction")
    return instruction


@contextmanager
def tokenised(prompt: EditPrompt, style: str) -> Iterator[None]:
    """Let prompts be tokenised as the demo's fast tokenizer does, or as training and the slow one."""
    faults = replace(prompt.faults, demo_tokens=style != SLOW)
    with mock.patch.object(prompt, "faults", faults):
        yield


def _ids(batch: EditBatch) -> Iterator[tuple[str, str, list[list[int]]]]:
    """Name in the recording, words for it, ours."""
    yield "input_ids", "ids", batch.input_ids.tolist()
    yield "labels", "labels", batch.labels.tolist()
    yield "attention_mask", "attention mask", batch.attention_mask.to(torch.int64).tolist()


def _check_truncated(rebuilt: Rebuilt, name: str, table: Table) -> None:
    recorded = rebuilt.bundle.step_tensors(name)
    if "input_ids" not in recorded:
        raise NotRecorded(f"no input_ids of {name}")
    for key, check, ours in _ids(truncated_batch(rebuilt, recorded["input_ids"].shape[1])):
        if key in recorded:
            table.exact(GROUP, f"{name} {check}", ours, recorded[key].long().tolist())


def _why(rebuilt: Rebuilt, recorded: object, key: str) -> str:
    """Why a tensor of the inputs is missing, if it is."""
    if recorded is not None:
        return ""
    return f"no {key} in {TRAIN_INPUTS}" if rebuilt.bundle.has(TRAIN_INPUTS) else f"no {TRAIN_INPUTS}"
