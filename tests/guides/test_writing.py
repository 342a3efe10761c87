"""Editing's one pass over prompt, answer and visual tokens against the plain way: every row alone, without a cache."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mgie_lit.guides.memory import ImageMemory
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.prompts import EditPrompt
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import tiny_guide
from mgie_lit.types import Condition
from mgie_lit.vocabulary import NUM_VISUAL_TOKENS

SOURCES = [random_image(16, 16, seed=0), random_image(24, 12, seed=1), random_image(16, 16, seed=2)]
INSTRUCTIONS = ["warmer", "turn the photo grayscale, please", "give it more"]
SYSTEM = "a chat between a user and an assistant ."


@pytest.fixture(autouse=True)
def without_gradient() -> Iterator[None]:
    with torch.no_grad():
        yield


def make_guide(*, image_first: bool = False, has_vision: bool = True, no_repeat_ngram: int = 3) -> MLLMGuide:
    """In float64, with word vectors so large that no choice hangs on rounding, and with system text."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        guide = tiny_guide(has_vision=has_vision).eval()
        nn.init.normal_(guide.mllm.language_model.lm_head.weight, std=1.0)
        nn.init.normal_(guide.mllm.word_embeddings, std=1.0)
    guide.prompt = EditPrompt(
        guide.prompt.tokenizer,
        num_image_patches=guide.prompt.num_image_patches,
        system=SYSTEM,
        query=guide.prompt.query,
        max_length=guide.prompt.max_length,
        image_first=image_first,
    )
    guide.no_repeat_ngram = no_repeat_ngram
    return guide.double()


def plain_answer(guide: MLLMGuide, source: Image.Image, instruction: str) -> tuple[list[int], list[int], Tensor | None]:
    """Prompt, greedy answer without stop id, pixels; everything is read anew for each word."""
    mllm, prompt, pixels = guide.mllm, guide.prompt.prompt_ids(instruction), guide.pixels([source])
    end_id, size = guide.prompt.tokenizer.eos_token_id, guide.no_repeat_ngram
    text: list[int] = []
    while len(text) < guide.max_new_tokens:
        scores = mllm.logits(mllm(mllm.embed(torch.tensor([prompt + text]), pixels))[0, -1])
        scores[guide.prompt.image_ids] = -torch.inf
        for start in range(len(text) - size + 1) if size else ():
            if text[start : start + size - 1] == text[len(text) - size + 1 :]:
                scores[text[start + size - 1]] = -torch.inf
        new = int(scores.argmax())
        if new in (guide.prompt.visual_ids[0], end_id):
            break
        text.append(new)
    return prompt, text, pixels


def plain_condition(guide: MLLMGuide, source: Image.Image, instruction: str) -> tuple[Tensor, str]:
    prompt, text, pixels = plain_answer(guide, source, instruction)
    ids = torch.tensor([[*prompt, *text, *guide.prompt.visual_ids]])
    hidden = guide.mllm(guide.mllm.embed(ids, pixels))
    states = hidden[:, -NUM_VISUAL_TOKENS - 1 : -1]
    return guide.edit_head(states, guide.visual_embeddings)[0], guide.prompt.decode(text)


def assert_plain(guide: MLLMGuide, sources: list[Image.Image], instructions: list[str]) -> Condition:
    condition = guide.condition(sources, instructions)
    for row, (source, instruction) in enumerate(zip(sources, instructions, strict=True)):
        text, words = plain_condition(guide, source, instruction)
        assert condition.expressive_instructions[row] == words
        torch.testing.assert_close(condition.text[row], text, rtol=1e-9, atol=1e-9)
    return condition


def force_to_write(guide: MLLMGuide, answers: list[list[int]]) -> None:
    """Solve LM head rows so that these are the greedy answers to the questions."""
    states, ids = [], []
    for source, instruction, answer in zip(SOURCES, INSTRUCTIONS, answers, strict=True):
        prompt = guide.prompt.prompt_ids(instruction)
        row = torch.tensor([prompt + answer])
        states.append(guide.mllm(guide.mllm.embed(row, guide.pixels([source])))[0, len(prompt) - 1 : -1])
        ids += answer
    wanted = sorted(set(ids))
    target = torch.full((len(ids), len(wanted)), -50.0, dtype=torch.float64)
    for position, index in enumerate(ids):
        target[position, wanted.index(index)] = 50.0
    head = guide.mllm.language_model.lm_head.weight.zero_()
    head[wanted] = torch.linalg.lstsq(torch.cat(states), target).solution.T


@pytest.mark.parametrize("image_first", [False, True])
@pytest.mark.parametrize("has_vision", [True, False])
def test_a_batch_of_unequal_rows(image_first: bool, has_vision: bool) -> None:
    guide = make_guide(image_first=image_first, has_vision=has_vision)
    assert len({len(guide.prompt.prompt_ids(words)) for words in INSTRUCTIONS}) == 3
    assert_plain(guide, SOURCES, INSTRUCTIONS)


@pytest.mark.parametrize("image_first", [False, True])
def test_rows_that_end_at_a_visual_token_at_the_end_token_and_with_the_budget(image_first: bool) -> None:
    guide = make_guide(image_first=image_first)
    words = guide.prompt.encode("the photo is warmer and there is much more light")[: guide.max_new_tokens]
    force_to_write(guide, [[*words[:2], guide.prompt.visual_ids[0]], [guide.prompt.tokenizer.eos_token_id], words])
    lengths = [len(plain_answer(guide, *row)[1]) for row in zip(SOURCES, INSTRUCTIONS, strict=True)]
    assert lengths == [2, 0, guide.max_new_tokens]
    assert_plain(guide, SOURCES, INSTRUCTIONS)
    for row in range(3):
        assert_plain(guide, SOURCES[row : row + 1], INSTRUCTIONS[row : row + 1])


def test_repeated_ngrams_are_banned_as_in_the_plain_way() -> None:
    guide = make_guide(no_repeat_ngram=1)
    guide.max_new_tokens = 30
    head = guide.mllm.language_model.lm_head.weight
    head[40:] = 0.0  # few words to choose from
    assert_plain(guide, SOURCES[:2], INSTRUCTIONS[:2])
    guide.no_repeat_ngram = 0
    assert_plain(guide, SOURCES[:1], INSTRUCTIONS[:1])


def tokens_read(guide: MLLMGuide, monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[int, int]], list[int]]:
    """Shapes of what the language model reads from now on, and how many images the tower sees in each pass."""
    read: list[tuple[int, int]] = []
    seen: list[int] = []
    extend, vision_states = guide.mllm.extend, guide.mllm.vision_states

    def extending(x: Tensor, *rest: object, **options: object) -> Tensor:
        read.append(tuple(x.shape[:2]))
        return extend(x, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(guide.mllm, "extend", extending)
    monkeypatch.setattr(guide.mllm, "vision_states", lambda x: (seen.append(len(x)), vision_states(x))[1])
    return read, seen


@pytest.mark.parametrize("image_first", [False, True])
def test_each_different_thing_is_read_once(image_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = make_guide(image_first=image_first)
    read, seen = tokens_read(guide, monkeypatch)
    sources, instructions = [SOURCES[0], SOURCES[1], SOURCES[0]], [*INSTRUCTIONS[:2], INSTRUCTIONS[2]]
    condition = assert_plain(guide, sources, instructions)
    opening = len(guide.prompt.opening_ids)
    assert opening > (20 if image_first else 10)
    longest = max(len(guide.prompt.prompt_ids(words)) for words in instructions)
    beginning, rest, *words = read[: 2 + guide.max_new_tokens]
    assert beginning == (2 if image_first else 1, opening)
    assert rest[0] == 3
    assert longest - opening <= rest[1] <= longest - opening + 2, "the opening was read again"
    assert words == [(3, 1)] * (guide.max_new_tokens - 1) + [(3, NUM_VISUAL_TOKENS)]
    assert seen[0] == 2
    assert condition.text.shape[0] == 3


def with_memory(guide: MLLMGuide, **options: int) -> MLLMGuide:
    remembering = copy(guide)
    remembering.memory = ImageMemory(**options)
    return remembering


@pytest.mark.parametrize("image_first", [False, True])
def test_a_memory_changes_nothing_but_what_is_read(image_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_guide(image_first=image_first)
    guide = with_memory(plain)
    expected = [plain.condition(SOURCES[:1], [words]) for words in INSTRUCTIONS]
    first = guide.condition(SOURCES[:1], INSTRUCTIONS[:1])
    read, seen = tokens_read(guide, monkeypatch)
    again = [first, *(guide.condition(SOURCES[:1], [words]) for words in INSTRUCTIONS[1:])]
    for one, other in zip(again, expected, strict=True):
        assert torch.equal(one.text, other.text), "not even the last bit"
    opening = len(guide.prompt.opening_ids)
    assert seen == []
    assert (1, opening) not in read
    guide.condition([SOURCES[1], SOURCES[0]], INSTRUCTIONS[:2])
    assert seen == [1], "the second image alone is new"


def test_a_memory_is_not_used_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = with_memory(make_guide())
    guide.train()
    _, seen = tokens_read(guide, monkeypatch)
    for _ in range(2):
        guide.condition(SOURCES[:1], INSTRUCTIONS[:1])
    assert seen == [1, 1]


def change_in_place(guide: MLLMGuide) -> None:
    guide.mllm.projector.weight.mul_(1.5)  # type: ignore[union-attr, operator]


def load_others(guide: MLLMGuide) -> None:
    others = {name: value * 1.5 for name, value in guide.mllm.state_dict().items()}
    guide.mllm.load_state_dict(others)


def take_a_step(guide: MLLMGuide) -> None:
    parameters = list(guide.mllm.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(parameters, lr=0.1, fused=True).step()


def convert(guide: MLLMGuide) -> None:
    guide.float()


@pytest.mark.parametrize("change", [change_in_place, load_others, take_a_step, convert])
@pytest.mark.parametrize("image_first", [False, True])
def test_a_memory_never_outlives_its_weights(change: object, image_first: bool) -> None:
    guide = with_memory(make_guide(image_first=image_first))
    before = guide.condition(SOURCES[:1], INSTRUCTIONS[:1])
    change(guide)  # type: ignore[operator]
    after = guide.condition(SOURCES[:1], INSTRUCTIONS[:1])
    guide.memory = None
    assert torch.equal(after.text, guide.condition(SOURCES[:1], INSTRUCTIONS[:1]).text)
    assert not torch.equal(after.text, before.text)


def test_released_faults_with_rows_of_a_batch() -> None:
    """What an answer in a batch is read at is what it is read at alone."""
    guide = make_guide(no_repeat_ngram=3)
    guide.faults = replace(guide.faults, free_visual_tokens=True, clamp_slice=True, ban_prompt_ngrams=True)
    words, visual, end_id = [40, 41, 42], guide.prompt.visual_ids, guide.prompt.tokenizer.eos_token_id
    guide.max_new_tokens = 12
    force_to_write(guide, [[*words, *visual, end_id], [words[0], end_id], [*words, visual[0], end_id]])
    together = guide.condition(SOURCES, INSTRUCTIONS)
    for row in range(3):
        alone = guide.condition(SOURCES[row : row + 1], INSTRUCTIONS[row : row + 1])
        torch.testing.assert_close(together.text[row], alone.text[0], rtol=1e-9, atol=1e-9)
        assert together.expressive_instructions[row] == alone.expressive_instructions[0]


def test_a_copy_of_a_guide_that_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = with_memory(make_guide(image_first=True))
    before = guide.condition(SOURCES[:1], INSTRUCTIONS[:1])
    copied = deepcopy(guide)
    change_in_place(copied)
    assert not torch.equal(copied.condition(SOURCES[:1], INSTRUCTIONS[:1]).text, before.text)
    assert torch.equal(guide.condition(SOURCES[:1], INSTRUCTIONS[:1]).text, before.text)
