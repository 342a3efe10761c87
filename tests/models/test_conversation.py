from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from mgie_lit.models.conversation import NO_ID, Conversation, ban_repeats
from mgie_lit.models.mllm import MLLM
from mgie_lit.testing.tiny_models import LLM_DIM, VOCAB_SIZE, tiny_mllm

PATCH = 501  # stands for <im_patch>
STOP = VOCAB_SIZE - 1
PROMPTS = [[1, 5, 6], [1, 9, 8, 7, 4], [1, 9, 2, 3, 3, 5, 9]]


@pytest.fixture(scope="module")
def mllm() -> Iterator[MLLM]:
    with torch.no_grad():
        torch.manual_seed(0)
        model = tiny_mllm(PATCH).eval()
        # with such weights a random model's greedy choices are clear, not decided by rounding
        torch.nn.init.normal_(model.language_model.lm_head.weight, std=1.0)
        torch.nn.init.normal_(model.word_embeddings, std=1.0)
        yield model.double()


def begin(mllm: MLLM, prompts: list[list[int]], *, keeps_states: bool = False) -> Conversation:
    """All rows have read their prompts, of which the first token comes from one prefix."""
    (prefix,) = mllm.prefix(mllm.embed(torch.tensor(prompts[:1])[:, :2]), has_states=keeps_states)
    conversation = Conversation(mllm, prompts, [prefix] * len(prompts), 1, room=20, keeps_states=keeps_states)
    rests = [prompt[1:] for prompt in prompts]
    length = max(map(len, rests))
    ids = torch.tensor([[0] * (length - len(rest)) + rest for rest in rests])
    is_real = torch.tensor([[False] * (length - len(rest)) + [True] * len(rest) for rest in rests])
    conversation.read(mllm.embed(ids), None if is_real.all() else is_real, only_last=True)
    return conversation


def write(
    conversation: Conversation,
    count: int,
    *,
    stops: tuple[int, ...] = (STOP,),
    ngram: int = 0,
    never: tuple[int, ...] = (),
) -> list[list[int]]:
    new_ids = conversation.write(stop_ids=stops, never_ids=never, pad_id=0, max_new_tokens=count, no_repeat_ngram=ngram)
    return new_ids.tolist()


def states_alone(mllm: MLLM, ids: list[int]) -> Tensor:
    return mllm(mllm.embed(torch.tensor([ids])))[0]


def slow_greedy(mllm: MLLM, prompt: list[int], *, stop_ids: list[int], count: int, ngram: int) -> list[int]:
    """Greedy search without cache; no ``ngram`` of the new tokens comes twice."""
    new: list[int] = []
    while len(new) < count:
        scores = mllm.logits(states_alone(mllm, prompt + new))[-1]
        for start in range(len(new) - ngram + 1) if ngram else ():
            if new[start : start + ngram - 1] == new[len(new) - ngram + 1 :]:
                scores[new[start + ngram - 1]] = -float("inf")
        new.append(int(scores.argmax()))
        if new[-1] in stop_ids:
            break
    return new


@pytest.mark.parametrize("ngram", [0, 1, 2])
def test_writing_is_greedy(mllm: MLLM, ngram: int) -> None:
    for prompt in PROMPTS:
        expected = slow_greedy(mllm, prompt, stop_ids=[STOP], count=12, ngram=ngram)
        assert write(begin(mllm, [prompt]), 12, ngram=ngram) == [expected]


def test_no_ngram_is_written_twice(mllm: MLLM) -> None:
    constant = tiny_mllm(PATCH).eval()
    torch.nn.init.zeros_(constant.language_model.lm_head.weight)  # every token scores the same: 0, 0, 0, ...
    assert write(begin(constant, [[1, 5]]), 6) == [[0] * 6]
    (new,) = write(begin(constant, [[1, 5]]), 6, ngram=2)
    pairs = list(pairwise(new))
    assert len(set(pairs)) == len(pairs) == 5


def test_ids_that_are_never_written(mllm: MLLM) -> None:
    (free,) = write(begin(mllm, [[1, 5, 6]]), 6)
    (without,) = write(begin(mllm, [[1, 5, 6]]), 6, never=(free[0], free[2]))
    assert not {free[0], free[2]} & set(without)
    assert len(without) == 6


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_of_unequal_prompts_are_written_as_if_alone(
    mllm: MLLM, attention: str, request: pytest.FixtureRequest
) -> None:
    mllm.language_model.set_attn_implementation(attention)
    request.addfinalizer(lambda: mllm.language_model.set_attn_implementation("sdpa"))  # type: ignore[func-returns-value]
    conversation = begin(mllm, PROMPTS, keeps_states=True)
    together = write(conversation, 8)
    states = conversation.states_in_order()
    for row, prompt in enumerate(PROMPTS):
        assert together[row] == slow_greedy(mllm, prompt, stop_ids=[STOP], count=8, ngram=0)
        ids = prompt + together[row][:-1]
        torch.testing.assert_close(states[row, : len(ids)], states_alone(mllm, ids))
    assert len({tuple(row) for row in together}) == 3


def test_a_row_ends_after_any_stop_id_and_is_filled_up(mllm: MLLM) -> None:
    prompts = [[1, 5, 6], [1, 9, 8]]
    free = write(begin(mllm, prompts), 6)
    stop = free[0][2]
    assert stop not in free[1], "the other row has to go on"
    stopped = write(begin(mllm, prompts), 6, stops=(STOP, stop))
    assert stopped == [[*free[0][:3], 0, 0, 0], free[1]]


def test_writing_ends_with_the_last_row(mllm: MLLM) -> None:
    (free,) = write(begin(mllm, [[1, 5, 6]]), 6)
    assert write(begin(mllm, [[1, 5, 6]]), 6, stops=(free[2],)) == [free[:3]]


def test_what_follows_sees_neither_padding_nor_what_came_after_the_end(mllm: MLLM) -> None:
    """Rows of 0, 2 and 8 kept words: the next words get the states that they have alone, at their own positions."""
    conversation = begin(mllm, PROMPTS, keeps_states=True)
    written = write(conversation, 9)
    kept = [0, 2, 8]
    conversation.take_back(kept)
    tail = [7, 11, 13]
    states = conversation.read(mllm.embed(torch.tensor([tail] * 3)))
    for row, prompt in enumerate(PROMPTS):
        ids = prompt + written[row][: kept[row]] + tail
        torch.testing.assert_close(states[row], states_alone(mllm, ids)[-3:])
    ids = PROMPTS[2] + written[2][:8] + tail
    torch.testing.assert_close(conversation.states_in_order()[2, : len(ids)], states_alone(mllm, ids))


def test_the_prompts_last_token_can_be_taken_back(mllm: MLLM) -> None:
    conversation = begin(mllm, PROMPTS)
    write(conversation, 4)
    conversation.take_back([-1, -1, 1])
    states = conversation.read(mllm.embed(torch.tensor([[10, 11]] * 3)))
    torch.testing.assert_close(states[1], states_alone(mllm, [*PROMPTS[1][:-1], 10, 11])[-2:])


def test_a_single_row_needs_no_mask_for_its_words(mllm: MLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor | None] = []
    conversation, original = begin(mllm, [[1, 5, 6]]), mllm.extend
    monkeypatch.setattr(mllm, "extend", lambda *args: (masks.append(args[3]), original(*args))[1])
    write(conversation, 4)
    assert masks == [None] * 3


def test_prefixes_of_rows_are_their_own(mllm: MLLM) -> None:
    beginnings = torch.tensor([[1, 4, 4], [1, 7, 2]])
    prefixes = mllm.prefix(mllm.embed(beginnings))
    assert prefixes[0].states.shape == (3, LLM_DIM)
    rows = [1, 0, 1]
    prompts = [[*beginnings[row, :2].tolist(), 20, 30] for row in rows]
    conversation = Conversation(mllm, prompts, [prefixes[row] for row in rows], 2, room=3)
    states = conversation.read(mllm.embed(torch.tensor([[20, 30]] * 3)))
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(states[row], states_alone(mllm, prompt)[-2:])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_states_that_are_not_wanted_are_not_computed_and_nothing_else_changes(
    mllm: MLLM, attention: str, request: pytest.FixtureRequest
) -> None:
    mllm.language_model.set_attn_implementation(attention)
    request.addfinalizer(lambda: mllm.language_model.set_attn_implementation("sdpa"))  # type: ignore[func-returns-value]
    sizes: list[int] = []
    mlp = mllm.language_model.model.layers[-1].mlp
    handle = mlp.register_forward_hook(lambda module, args, out: sizes.append(args[0].shape[1]))
    lean, whole = (begin(mllm, PROMPTS[1:], keeps_states=keeps) for keeps in (False, True))
    handle.remove()
    assert sizes == [1, 2, 6], "one state of the rest, none of the prefix; all of both"
    torch.testing.assert_close(lean._last, whole._last)
    tail = mllm.embed(torch.tensor([[7, 11], [3, 2]]))
    torch.testing.assert_close(lean.read(tail), whole.read(tail))


def test_only_the_last_position_is_scored(mllm: MLLM) -> None:
    shapes: list[torch.Size] = []
    handle = mllm.language_model.lm_head.register_forward_hook(lambda module, args, out: shapes.append(args[0].shape))
    write(begin(mllm, PROMPTS), 3)
    handle.remove()
    assert shapes == [(3, LLM_DIM)] * 3


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_banned_repeats_are_those_of_transformers(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for length in range(1, 30, 4):
        ids = torch.randint(3, (5, length), generator=generator)
        scores = torch.randn(5, 6, generator=generator)
        expected = NoRepeatNGramLogitsProcessor(size)(ids, scores.clone())
        ban_repeats(scores, ids, size)
        assert torch.equal(scores, expected)


def test_padding_bans_nothing() -> None:
    scores = torch.zeros(2, 4)
    ban_repeats(scores, torch.tensor([[NO_ID, NO_ID, 3], [1, NO_ID, 2]]), 1)
    assert scores.isinf().tolist() == [[False, False, False, True], [False, True, True, False]]


def test_without_a_size_nothing_is_banned() -> None:
    scores = torch.zeros(1, 3)
    ban_repeats(scores, torch.tensor([[1, 1, 1]]), 0)
    assert not scores.any()
