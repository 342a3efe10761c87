"""Recorded edits: prompt, generated ids, states, condition, sampling and the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import Tensor
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from mgie_lit.models.conversation import Conversation
from mgie_lit.types import Condition
from parity_checks.bundle import HALF, INFER_MANIFEST, NotRecorded
from parity_checks.model import Rebuilt
from parity_checks.rows import Table, slice_starts
from parity_checks.sampler import PIPE, Sampling, check_sampling, is_sampled, sample
from parity_checks.text import FAST, tokenised
from parity_checks.watch import Seen, listen, watch

NEAR_TIE = 0.01  # where the two likeliest words are as near, rounding may choose; ids are compared up to there
_WORDS = "lm_head.weight"
_HEAD = "edit_head."


def check_cases(rebuilt: Rebuilt, table: Table) -> None:
    """Every recorded edit; those without words of their own take another case's condition."""
    names = rebuilt.bundle.inference_cases()
    for name in names:
        with table.guard(f"edit {name}", "the whole edit"):
            _check_case(rebuilt, name, table)
    if not names:
        table.absent("edits", "any edit", "no infer_*.safetensors")


def check_half_null(rebuilt: Rebuilt, table: Table) -> None:
    """The null condition from weights that went through a half-precision file."""
    group, recorded = "edit head from half-precision files", rebuilt.bundle.tensors(HALF)
    key = "NULL_from_half_ckpt_fp32_math"
    if key not in recorded:
        table.absent(group, "null condition", f"no {HALF}" if not recorded else f"no {key} in {HALF}")
        return
    with table.guard(group, "null condition"), torch.no_grad():
        plain = rebuilt.guide.edit_head.null_condition(rebuilt.guide.visual_embeddings)
        halved = {name: tensor.half().float() for name, tensor in rebuilt.guide.edit_head.state_dict().items()}
        rebuilt.guide.edit_head.load_state_dict(halved)
        null = rebuilt.guide.edit_head.null_condition(rebuilt.guide.visual_embeddings.half().float())
        table.compare(group, "null condition", null, recorded[key])
        # a difference of nearly equal numbers: its own rounding counts in units of the condition
        apart, theirs = float((null - plain).abs().max()), rebuilt.bundle.infer.get("null_half_maxdiff")
        if theirs is not None:
            table.judge(group, "change of the null condition", abs(apart - theirs) / float(plain.abs().max()))
    rebuilt.restore()


def _check_case(rebuilt: Rebuilt, name: str, table: Table) -> None:
    bundle = rebuilt.bundle
    group, recorded, case = f"edit {name}", bundle.case_tensors(name), bundle.cases.get(name, {})
    if not recorded:
        raise NotRecorded(f"no infer_{name}.safetensors")
    if "prompt_ids" in recorded and "instruction" in case:
        with words_of(rebuilt, recorded), tokenised(rebuilt.guide.prompt, case.get("prompt_style", FAST)):
            _check_words(rebuilt, group, recorded, case, table)
    elif is_sampled(recorded, "") and "scheduler" in case:
        _check_image_part(rebuilt, group, name, recorded, table)
    else:
        raise NotRecorded(f"no instruction or scheduler for it in {INFER_MANIFEST}")


def _check_words(
    rebuilt: Rebuilt, group: str, recorded: dict[str, Tensor], case: Mapping[str, Any], table: Table
) -> None:
    guide, prompt_ids = rebuilt.guide, recorded["prompt_ids"].tolist()
    table.exact(group, "prompt ids", guide.prompt.prompt_ids(case["instruction"]), prompt_ids)
    picture = _picture(recorded)
    if picture is None:
        raise NotRecorded("no input_image_u8")
    if "images" in recorded:
        table.compare(group, "pixels of the vision tower", guide.pixels([picture]), recorded["images"])
    answer = recorded["sequence"].tolist()[len(prompt_ids) :] if "sequence" in recorded else None
    sampling = Sampling.of(rebuilt, case, recorded, PIPE)
    with table.guard(group, "the edit"):
        seen, written, image = _edit(rebuilt, sampling, picture, case["instruction"], None)
        margins = recorded.get("score_margin")
        agreed = _check_ids(group, written, answer, margins, table)
        if not agreed and answer is not None:  # what comes after is compared on the recorded words
            seen, _, image = _edit(rebuilt, sampling, picture, case["instruction"], answer)
        if margins is not None and answer is not None:
            table.compare(group, "lead of the likeliest word", _margins(rebuilt, seen, prompt_ids, answer), margins)
        _check_states(group, seen, recorded, case, table)
        check_sampling(group, sampling, seen, image, table)


def _edit(
    rebuilt: Rebuilt, sampling: Sampling | None, picture: Image.Image, instruction: str, answer: list[int] | None
) -> tuple[Seen, list[int], Image.Image | None]:
    """The whole edit, or as far as it is recorded; ``answer`` replaces what the MLLM would write."""
    guide = rebuilt.guide
    written: list[list[int]] = []
    reading: AbstractContextManager[object] = listen(guide, "write", written.extend)
    if answer is not None:
        written, reading = [answer], mock.patch.object(guide, "write", lambda conversation: _say(conversation, answer))
    image = None
    with watch(rebuilt.editor) as seen, reading:
        if sampling is None:
            guide.condition([picture], [instruction])
        else:
            image = sample(rebuilt.editor, sampling, picture, instruction)
    return seen, written[0], image


def _say(conversation: Conversation, answer: list[int]) -> list[list[int]]:
    """Let a conversation go on with given words instead of those that would be written."""
    ids = torch.tensor([answer[:-1]], device=conversation.mllm.device)
    conversation.read(conversation.mllm.embed(ids))
    return [answer]


def _check_ids(
    group: str, written: list[int], recorded: list[int] | None, margins: Tensor | None, table: Table
) -> bool:
    """Generated ids up to the first near tie; True where all of them agree."""
    if recorded is None:
        table.absent(group, "generated ids", "no sequence is recorded")
        return False
    ties = [] if margins is None else (margins < NEAR_TIE).nonzero().flatten().tolist()
    end = ties[0] if ties else None
    note = f"{len(recorded)} ids" if end is None else f"the first {end} of {len(recorded)} ids, then a near tie"
    table.exact(group, "generated ids", written[:end], recorded[:end], note=note)
    return written == recorded


def _check_states(group: str, seen: Seen, recorded: dict[str, Tensor], case: Mapping[str, Any], table: Table) -> None:
    hidden = seen.read
    for key, label, ours in (
        ("hid_all", "hidden states of all positions", hidden[0]),
        ("hid_slice", "[IMG] slice", seen.slices[0][0]),
        ("emb", "edit head output", seen.conditions[0]),
        ("NULL", "null condition", seen.conditions[1]),
    ):
        if key in recorded or key != "NULL":
            table.compare(group, label, ours if key in recorded else None, recorded.get(key))
    if "p" in case:
        table.exact(group, "slice start", slice_starts(hidden, seen.slices[0]), [case["p"]])


def _margins(rebuilt: Rebuilt, seen: Seen, prompt_ids: list[int], answer: list[int]) -> Tensor:
    """By how much the likeliest word leads, at each generated position, after the ban of repeated n-grams."""
    logits = rebuilt.guide.mllm.logits(seen.read[0, len(prompt_ids) - 1 :]).detach()  # (N, vocabulary)
    ban = NoRepeatNGramLogitsProcessor(rebuilt.guide.no_repeat_ngram)
    for position, scores in enumerate(logits):
        before = torch.tensor([prompt_ids + answer[:position]])
        logits[position] = ban(before, scores[None].clone())[0]
    best = logits.topk(2, dim=-1).values
    return best[:, 0] - best[:, 1]


def _check_image_part(rebuilt: Rebuilt, group: str, name: str, recorded: dict[str, Tensor], table: Table) -> None:
    """Sampling alone, on the picture and the condition of other cases."""
    bundle = rebuilt.bundle
    case = bundle.cases[name]
    named = named_cases(str(case.get("embeddings")), bundle.cases)
    if not named:
        raise NotRecorded(f"the case whose condition {name} takes")
    text, null = (bundle.case_tensors(other).get(key) for other, key in ((named[0], "emb"), (named[-1], "NULL")))
    picture = _picture_of(rebuilt, case.get("image"))
    if text is None or null is None or picture is None:
        raise NotRecorded(f"no picture, or no condition of {' and '.join(named)}")
    sampling = Sampling.of(rebuilt, case, recorded, "")
    assert sampling is not None
    condition = Condition(text=text, null=null, expressive_instructions=[""])
    with watch(rebuilt.editor) as seen, mock.patch.object(rebuilt.guide, "condition", return_value=condition):
        image = sample(rebuilt.editor, sampling, picture, "")
    check_sampling(group, sampling, seen, image, table)


def named_cases(words: str, cases: Iterable[str]) -> list[str]:
    """The cases that a remark names, in its order: whose condition, and whose null condition."""
    named = [name for name in cases if name in words]
    longest = [name for name in named if not any(name in other and name != other for other in named)]
    return sorted(longest, key=words.find)


def _picture_of(rebuilt: Rebuilt, number: int | None) -> Image.Image | None:
    """The picture with this number, from any case that holds it."""
    bundle = rebuilt.bundle
    names = (name for name, case in bundle.cases.items() if number is not None and case.get("image") == number)
    return next(filter(None, (_picture(bundle.case_tensors(name)) for name in names)), None)


def _picture(recorded: dict[str, Tensor]) -> Image.Image | None:
    pixels = recorded.get("input_image_u8")
    return None if pixels is None else Image.fromarray(pixels.numpy(), mode="RGB")


@contextmanager
def words_of(rebuilt: Rebuilt, recorded: dict[str, Tensor]) -> Iterator[None]:
    """Rows of the LM head that a case replaces, and its own embeddings of the visual tokens."""
    guide = rebuilt.guide
    head = guide.mllm.language_model.lm_head.weight
    if "lm_head.rows" in recorded:
        with torch.no_grad():
            head[recorded["lm_head.rows"]] = recorded["lm_head.values"]
    if "EMB" in recorded:
        guide.edit_head.stored_embeddings = recorded["EMB"][0]
    try:
        yield
    finally:
        guide.edit_head.stored_embeddings = None
        with torch.no_grad():
            head.copy_(rebuilt.weights[_WORDS])
