from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from mgie_lit.errors import ConfigError
from mgie_lit.faults import Faults
from mgie_lit.functional.losses import alignment_loss
from mgie_lit.functional.text_code import bag_of_tokens_code, random_token_codes
from mgie_lit.guides.mllm import ALIGNMENT_SEED, MLLMGuide
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.random_data import RESOLUTION, random_example, random_image, tiny_collator
from mgie_lit.testing.tiny_models import (
    CONDITION_DIM,
    LLM_DIM,
    NUM_QUERIES,
    VOCAB_SIZE,
    tiny_edit_head,
    tiny_guide,
    tiny_mllm,
    tiny_prompt,
)
from mgie_lit.types import EditBatch
from mgie_lit.vocabulary import IGNORE_INDEX, NUM_VISUAL_TOKENS

SIZES = [(RESOLUTION, RESOLUTION), (RESOLUTION + 8, RESOLUTION - 4)]


@pytest.fixture(scope="module")
def guide() -> MLLMGuide:
    torch.manual_seed(0)
    return clear_cut(tiny_guide().eval())


def clear_cut(guide: MLLMGuide) -> MLLMGuide:
    """Larger word vectors: greedy choices do not hang on rounding."""
    torch.nn.init.normal_(guide.mllm.language_model.lm_head.weight, std=1.0)
    torch.nn.init.normal_(guide.mllm.word_embeddings, std=1.0)
    return guide


def batch_of(guide: MLLMGuide, *indices: int) -> EditBatch:
    return tiny_collator(guide)([random_example(index) for index in indices])


def answer(guide: MLLMGuide, sources: list[Image.Image], instructions: list[str]) -> list[list[int]]:
    prompts = [guide.prompt.prompt_ids(instruction) for instruction in instructions]
    return guide.write(guide.begin(prompts, guide.look(sources)))


def hidden_states(guide: MLLMGuide, batch: EditBatch) -> Tensor:
    return guide.mllm(guide.mllm.embed(batch.input_ids, batch.mllm_pixels), batch.attention_mask)


def states_of_visual_tokens(guide: MLLMGuide, batch: EditBatch, *, shift: int) -> Tensor:
    """Hidden states at the ``[IMG]`` tokens, moved by ``shift``; places found by searching the ids."""
    rows = []
    for hidden, ids in zip(hidden_states(guide, batch), batch.input_ids.tolist(), strict=True):
        place = ids.index(guide.prompt.visual_ids[0]) + shift
        rows.append(hidden[place : place + NUM_VISUAL_TOKENS])
    return torch.stack(rows)


def test_condition_is_made_of_the_states_that_predict_the_visual_tokens(guide: MLLMGuide) -> None:
    batch = batch_of(guide, 0, 1, 2)
    assert len(set(batch.visual_token_start.tolist())) == 3, "rows of one length would prove little"
    text = guide.losses(batch).text
    assert text.shape == (3, NUM_QUERIES, CONDITION_DIM)
    embeddings = guide.mllm.word_embeddings[guide.prompt.visual_ids]
    expected = guide.edit_head(states_of_visual_tokens(guide, batch, shift=-1), embeddings)
    assert torch.allclose(text, expected, atol=1e-6)
    for wrong in (-2, 0):
        other = guide.edit_head(states_of_visual_tokens(guide, batch, shift=wrong), embeddings)
        assert not torch.allclose(text, other, atol=1e-3)


def test_visual_embeddings_are_the_rows_of_the_visual_tokens(guide: MLLMGuide) -> None:
    assert len(guide.prompt.tokenizer) < VOCAB_SIZE, "the last rows of the table would do otherwise"
    assert torch.equal(guide.visual_embeddings, guide.mllm.word_embeddings[guide.prompt.visual_ids])


def test_null_condition_is_the_head_of_zeros(guide: MLLMGuide) -> None:
    zeros = torch.zeros(1, NUM_VISUAL_TOKENS, LLM_DIM)
    expected = guide.edit_head(zeros, guide.mllm.word_embeddings[guide.prompt.visual_ids])
    null = guide.losses(batch_of(guide, 0, 1)).null
    assert null.shape == (1, NUM_QUERIES, CONDITION_DIM)
    assert torch.equal(null, expected)
    at_inference = guide.condition([random_image(16, 16, seed=0)], ["warmer"]).null
    assert torch.allclose(at_inference, expected, atol=1e-5)  # without gradient PyTorch takes other kernels


def test_rows_of_a_batch_do_not_depend_on_their_neighbours(guide: MLLMGuide) -> None:
    together = guide.losses(batch_of(guide, 0, 1, 2)).text
    for row in range(3):
        assert torch.allclose(guide.losses(batch_of(guide, row)).text[0], together[row], atol=1e-5)


def test_instruction_loss_is_the_language_model_s_own(guide: MLLMGuide) -> None:
    """As transformers computes it: shifted by one, mean over the labels of the whole batch."""
    batch = batch_of(guide, 0, 1, 2)
    embeddings = guide.mllm.embed(batch.input_ids, batch.mllm_pixels)
    outputs = guide.mllm.language_model(
        inputs_embeds=embeddings, attention_mask=batch.attention_mask, labels=batch.labels
    )
    loss = guide.losses(batch).loss_lm
    assert loss is not None
    assert loss.item() == pytest.approx(outputs.loss.item(), rel=1e-6)


def test_the_image_is_seen(guide: MLLMGuide) -> None:
    batch = batch_of(guide, 0)
    text = guide.losses(batch).text
    batch.mllm_pixels = batch.mllm_pixels + 1
    assert not torch.allclose(guide.losses(batch).text, text, atol=1e-4)


def test_embeddings_get_gradient_from_the_edit_alone() -> None:
    """Three ways lead to them: the ids, the sum in the edit head, the null condition; padding has none."""
    guide = tiny_guide()
    batch = batch_of(guide, 0, 1)
    losses = guide.losses(batch)
    (losses.text.square().sum() + losses.null.square().sum()).backward()
    gradient = guide.mllm.word_embeddings.grad
    assert gradient is not None
    assert gradient[guide.prompt.visual_ids].abs().sum(1).min() > 0
    assert gradient[guide.prompt.image_patch_id].abs().max() == 0
    assert gradient[guide.prompt.tokenizer.pad_token_id].abs().max() == 0


def test_without_alignment_there_is_no_loss_for_it(guide: MLLMGuide) -> None:
    assert guide.losses(batch_of(guide, 0)).loss_align is None
    assert "token_codes" not in guide.state_dict()


def test_alignment_compares_the_condition_with_the_code_of_the_expressive_words() -> None:
    guide = tiny_guide(align=True)
    batch = batch_of(guide, 0, 1)
    losses = guide.losses(batch)
    codes = random_token_codes(VOCAB_SIZE, CONDITION_DIM, seed=ALIGNMENT_SEED)
    expected = []
    for text in batch.expressive_instructions:
        marker = guide.prompt.encode("ASSISTANT:")
        ids = torch.tensor([guide.prompt.encode(f"ASSISTANT: {text}")[len(marker) :]])
        expected.append(bag_of_tokens_code(ids, torch.ones_like(ids, dtype=torch.bool), codes))
    assert losses.loss_align is not None
    assert torch.allclose(losses.loss_align, alignment_loss(losses.text, torch.cat(expected)))
    assert "token_codes" not in guide.state_dict(), "it can be drawn again"


def test_inference_and_training_make_the_same_condition_of_the_same_words(guide: MLLMGuide) -> None:
    """What the model wrote, taught to it, gives the states that it was edited by."""
    example = random_example(1)
    condition = guide.condition([example.source], [example.instruction])
    written = answer(guide, [example.source], [example.instruction])[0]
    assert len(written) == guide.max_new_tokens
    ids = [*guide.prompt.prompt_ids(example.instruction), *written, *guide.prompt.visual_ids]
    hidden = guide.mllm(
        guide.mllm.embed(torch.tensor([ids]), guide.pixels([example.source])),
        torch.ones(1, len(ids), dtype=torch.bool),
    )
    expected = guide.edit_head(hidden[:, -NUM_VISUAL_TOKENS - 1 : -1], guide.visual_embeddings)
    assert torch.allclose(condition.text, expected, atol=1e-5)
    assert condition.expressive_instructions == [guide.prompt.decode(written)]


def test_conditions_of_a_batch_equal_those_alone(guide: MLLMGuide) -> None:
    sources = [random_image(*size, seed=seed) for seed, size in enumerate(SIZES)]
    instructions = ["warmer", "turn the photo grayscale, please"]
    together = guide.condition(sources, instructions)
    for row in range(2):
        alone = guide.condition(sources[row : row + 1], instructions[row : row + 1])
        assert torch.allclose(together.text[row], alone.text[0], atol=1e-4)
        assert together.expressive_instructions[row] == alone.expressive_instructions[0]


def eager_to_write(index: int) -> MLLMGuide:
    """A guide whose first word after ``ASSISTANT:`` would be this id."""
    guide = tiny_guide().eval()
    ids = torch.tensor([guide.prompt.prompt_ids("warmer")])
    embeddings = guide.mllm.embed(ids, guide.pixels([random_image(16, 16, seed=0)]))
    hidden = guide.mllm(embeddings, torch.ones_like(ids, dtype=torch.bool))
    guide.mllm.language_model.lm_head.weight.data[index] = 100 * hidden[0, -1].detach()
    return guide


@pytest.mark.parametrize("token", ["[IMG0]", "</s>"])
def test_writing_ends_at_the_first_visual_or_end_token(token: str) -> None:
    """A model that only wants to stop writes nothing, and is edited by all eight visual tokens all the same."""
    guide = eager_to_write(tiny_prompt().tokenizer.convert_tokens_to_ids(token))
    condition = guide.condition([random_image(16, 16, seed=0)], ["warmer"])
    assert condition.expressive_instructions == [""]
    assert condition.text.shape == (1, NUM_QUERIES, CONDITION_DIM)


@pytest.mark.parametrize("token", ["<im_patch>", "<im_start>", "<im_end>"])
def test_an_untrained_model_can_not_write_a_second_image(token: str) -> None:
    """There would be no features for it, or those of the next image."""
    index = tiny_prompt().tokenizer.convert_tokens_to_ids(token)
    guide = eager_to_write(index)
    sources = [random_image(16, 16, seed=0)]
    written = answer(guide, sources, ["warmer"])
    assert index not in written[0]
    assert guide.condition(sources, ["warmer"]).text.shape == (1, NUM_QUERIES, CONDITION_DIM)


@pytest.mark.faults
def test_an_instruction_longer_than_the_prompt_may_be(guide: MLLMGuide) -> None:
    message = (
        r"instruction: expected at most 96 tokens with image and visual tokens, got \d{3}: 'warmer warmer .*shorten it"
    )
    with pytest.raises(ConfigError, match=message):
        guide.condition([random_image(16, 16, seed=0)] * 2, ["warmer", "warmer " * 90])


def test_condition_carries_no_graph(guide: MLLMGuide) -> None:
    condition = guide.condition([random_image(16, 16, seed=0)], ["warmer"])
    assert not condition.text.requires_grad
    assert not condition.null.requires_grad


def test_a_guide_without_eyes() -> None:
    """LGIE: the same guide, and the image makes no difference."""
    guide = clear_cut(tiny_guide(has_vision=False).eval())
    batch = batch_of(guide, 0, 1)
    losses = guide.losses(batch)
    batch.mllm_pixels = batch.mllm_pixels + 1
    assert torch.equal(guide.losses(batch).text, losses.text)
    conditions = [guide.condition([random_image(16, 16, seed=seed)], ["warmer"]) for seed in range(2)]
    assert torch.equal(conditions[0].text, conditions[1].text)


def test_vocabulary_has_to_hold_the_tokenizer() -> None:
    mllm, guide = tiny_mllm(501), tiny_guide()
    mllm.language_model.resize_token_embeddings(300)
    with pytest.raises(ValueError, match="mllm: expected a vocabulary of at least 512 tokens, got 300"):
        MLLMGuide(mllm, tiny_edit_head(), tiny_prompt(), guide.image_processor)


def test_edit_head_has_to_take_the_width_of_the_mllm() -> None:
    guide = tiny_guide()
    head = EditHead(LLM_DIM + 4, 28, CONDITION_DIM, NUM_QUERIES, 2, 1, 1, 44)
    with pytest.raises(ValueError, match=r"edit_head\.input_dim: expected the MLLM's 40, got 44"):
        MLLMGuide(guide.mllm, head, guide.prompt, guide.image_processor)


def test_prompt_has_to_leave_room_for_every_patch() -> None:
    guide = tiny_guide()
    with pytest.raises(ValueError, match=r"prompt\.num_image_patches: expected the tower's 9, got 3"):
        MLLMGuide(guide.mllm, guide.edit_head, tiny_prompt(num_image_patches=3), guide.image_processor)


def test_mllm_and_prompt_have_to_mean_the_same_patch_token() -> None:
    guide = tiny_guide()
    with pytest.raises(ValueError, match=r"mllm\.image_patch_id: expected 501, got 77"):
        MLLMGuide(tiny_mllm(77), guide.edit_head, guide.prompt, guide.image_processor)


def test_stored_embeddings_are_used_when_editing_and_the_table_s_rows_when_training() -> None:
    guide = clear_cut(tiny_guide().eval())
    batch = batch_of(guide, 0, 1)
    sources = [random_image(16, 16, seed=0)]
    rows = guide.condition(sources, ["warmer"])
    trained = guide.losses(batch).text
    guide.edit_head.stored_embeddings = guide.visual_embeddings.detach().clone()
    assert torch.equal(guide.condition(sources, ["warmer"]).text, rows.text)
    guide.edit_head.stored_embeddings += 1.0
    stored = guide.condition(sources, ["warmer"])
    assert not torch.allclose(stored.text, rows.text)
    assert not torch.allclose(stored.null, rows.null)
    assert torch.equal(guide.losses(batch).text, trained)


def gradients(guide: MLLMGuide, batch: EditBatch) -> tuple[dict[str, Tensor], Tensor]:
    """Of everything that trains with ``trainable=paper``, for a loss on all that the guide gives."""
    guide.zero_grad(set_to_none=True)
    given = guide.losses(batch)
    assert given.loss_lm is not None
    weights = torch.linspace(-1, 1, given.text.numel()).view_as(given.text)
    loss = given.loss_lm + (given.text * weights).sum() + given.null.square().sum()
    loss.backward()
    named = guide.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}, loss.detach()


@pytest.fixture
def paper_guide() -> MLLMGuide:
    torch.manual_seed(1)
    guide = clear_cut(tiny_guide().eval())
    set_trainable(guide, ["mllm.language_model.model.embed_tokens.*", "mllm.language_model.lm_head.*", "edit_head.*"])
    return guide


def test_new_rows_is_the_full_graph_but_for_the_other_rows(paper_guide: MLLMGuide) -> None:
    batch = batch_of(paper_guide, 0, 1, 2)
    assert len(set(batch.visual_token_start.tolist())) == 3, "rows of one length would prove little"
    full, loss = gradients(paper_guide, batch)
    paper_guide.train_embeddings = "new_rows"
    mine, same = gradients(paper_guide, batch)
    torch.testing.assert_close(same, loss, rtol=1e-6, atol=0)
    assert mine.keys() == full.keys()
    table, rows = "mllm.language_model.model.embed_tokens.weight", paper_guide.prompt.visual_ids
    others = [index for index in range(VOCAB_SIZE) if index not in rows]
    assert full[table][others].any()
    assert not mine[table][others].any()
    full[table][others] = 0
    for name, gradient in full.items():
        apart = (mine[name] - gradient).abs().max() / gradient.abs().max()
        assert apart < 1e-5, name


def test_new_rows_keeps_no_graph_before_the_visual_tokens(paper_guide: MLLMGuide) -> None:
    paper_guide.train_embeddings = "new_rows"
    lengths: list[int] = []
    layer = paper_guide.mllm.language_model.model.layers[0]
    handle = layer.register_forward_hook(
        lambda module, args, output: lengths.append(args[0].shape[1]) if torch.is_grad_enabled() else None
    )
    paper_guide.losses(batch_of(paper_guide, 0, 1))
    handle.remove()
    assert lengths == [NUM_VISUAL_TOKENS]


def test_new_rows_needs_the_visual_tokens_at_the_end_of_every_row() -> None:
    guide = tiny_guide()
    parts = (guide.mllm, guide.edit_head, guide.prompt, guide.image_processor)
    with pytest.raises(ValueError, match=r"train_embeddings: new_rows needs .* or train_embeddings=all"):
        MLLMGuide(*parts, train_embeddings="new_rows", faults=Faults(clamp_slice=True))
    with pytest.raises(ValueError, match=r"train_embeddings: expected one of all, new_rows, got 'old_rows'"):
        MLLMGuide(*parts, train_embeddings="old_rows")


def test_scores_are_computed_at_labels_only_and_nothing_else_changes(guide: MLLMGuide) -> None:
    batch = batch_of(guide, 0, 1, 2)
    num_labels = int((batch.labels != IGNORE_INDEX).sum())
    seen: list[int] = []
    handle = guide.mllm.language_model.lm_head.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    few = guide.losses(batch)
    everywhere = guide.losses(replace(batch, label_positions=None))
    handle.remove()
    assert seen == [num_labels, batch.labels[:, 1:].numel()]
    torch.testing.assert_close(few.loss_lm, everywhere.loss_lm, rtol=1e-6, atol=0)


def test_padding_on_the_right_changes_no_state_that_is_read(guide: MLLMGuide) -> None:
    together = guide.losses(batch_of(guide, 0, 1))
    assert len(set(batch_of(guide, 0, 1).attention_mask.sum(1).tolist())) == 2
    for row in (0, 1):
        torch.testing.assert_close(together.text[row], guide.losses(batch_of(guide, row)).text[0], rtol=1e-4, atol=1e-5)
