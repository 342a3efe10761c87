from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from PIL import Image

from mgie_lit.data.collate import EditCollator
from mgie_lit.data.transforms import PairTransform
from mgie_lit.editor import Objective
from mgie_lit.errors import DataError
from mgie_lit.guides.text import TextGuide, TextPrompt
from mgie_lit.models.text_encoder import make_text_encoder
from mgie_lit.prompts import NO_VISUAL_TOKENS, load_text_tokenizer
from mgie_lit.testing.random_data import RESOLUTION, random_draws, random_example, random_image
from mgie_lit.testing.tiny_models import CONDITION_DIM, tiny_guide
from mgie_lit.testing.tiny_text import TEXT_LENGTH, tiny_text_editor, tiny_text_encoder, tiny_text_guide
from mgie_lit.types import EditBatch
from mgie_lit.vocabulary import IGNORE_INDEX


def batch_for(guide: TextGuide, indices: Sequence[int] = (0, 1, 2)) -> EditBatch:
    collator = EditCollator(guide.prompt, None, PairTransform(RESOLUTION))
    return collator([random_example(index) for index in indices])


class Parrot:
    """A writer that says which image it saw and what it was told."""

    def express(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> list[str]:
        return [f"{image.width} {text}" for image, text in zip(sources, instructions, strict=True)]


class TestPrompt:
    @pytest.fixture
    def prompt(self) -> TextPrompt:
        return tiny_text_guide().prompt

    def test_begin_words_end_padding(self, prompt: TextPrompt) -> None:
        words = prompt.tokenizer.encode("make it warmer", add_special_tokens=False)
        padding = [prompt.tokenizer.pad_token_id] * (TEXT_LENGTH - 2 - len(words))
        assert prompt.ids("make it warmer") == [1, *words, 2, *padding]
        assert prompt.ids("") == [1, 2] + [prompt.tokenizer.pad_token_id] * (TEXT_LENGTH - 2)

    def test_long_texts_are_cut_counted_and_told_once(
        self, prompt: TextPrompt, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "mgie_lit"):
            rows = [prompt.ids("warmer " * count) for count in (TEXT_LENGTH + 5, 2 * TEXT_LENGTH, 1)]
        assert {len(row) for row in rows} == {TEXT_LENGTH}
        assert rows[0] == rows[1]
        assert rows[0][-1] == prompt.tokenizer.eos_token_id
        assert prompt.num_cut == 2
        (record,) = [record for record in caplog.records if record.name == "mgie_lit.guides.text"]
        assert f"is cut to {TEXT_LENGTH - 2}, the longest that the text encoder reads ('warmer " in record.getMessage()

    @pytest.mark.parametrize(("reads", "index"), [("instruction", 0), ("expressive_instruction", 1)])
    def test_row_holds_the_text_that_is_read_and_no_label(self, reads: str, index: int) -> None:
        prompt = tiny_text_guide(reads).prompt  # type: ignore[arg-type]
        row = prompt.training_row("warmer", "warm light")
        assert row.input_ids == prompt.ids(("warmer", "warm light")[index])
        assert row.labels == [IGNORE_INDEX] * TEXT_LENGTH
        assert row.visual_token_start == NO_VISUAL_TOKENS
        assert prompt.needs_expressive == bool(index)

    @pytest.mark.faults
    def test_faults(self) -> None:
        tokenizer = load_text_tokenizer("small")
        with pytest.raises(ValueError, match=r"expected at least 3 tokens, got 2"):
            TextPrompt(tokenizer, max_length=2, reads="instruction")
        with pytest.raises(ValueError, match=r"reads: expected one of instruction, expressive_instruction, got 'all'"):
            TextPrompt(tokenizer, max_length=9, reads="all")  # type: ignore[arg-type]
        tokenizer.bos_token = None
        with pytest.raises(ValueError, match=r"text_tokenizer: expected one with a bos_token, got one without"):
            TextPrompt(tokenizer, max_length=9, reads="instruction")


class TestTraining:
    def test_condition_and_null_are_the_encoder_s_states(self) -> None:
        guide = tiny_text_guide().eval()
        losses = guide.losses(batch_for(guide))
        assert losses.text.shape == (3, TEXT_LENGTH, CONDITION_DIM)
        assert losses.null.shape == (1, TEXT_LENGTH, CONDITION_DIM)
        assert losses.loss_lm is None
        for row, text in enumerate([random_example(index).instruction for index in range(3)]):
            ids = torch.tensor([guide.prompt.ids(text)])
            assert torch.allclose(losses.text[row], guide.text_encoder(ids).last_hidden_state[0], atol=1e-6)
        empty = guide.text_encoder(torch.tensor([guide.prompt.ids("")])).last_hidden_state
        assert torch.allclose(losses.null, empty, atol=1e-6)
        assert not torch.allclose(losses.null[0], losses.text[0], atol=1e-3)

    def test_training_and_inference_agree(self) -> None:
        guide = tiny_text_guide().eval()
        example = random_example(1)
        trained = guide.losses(batch_for(guide, [1]))
        asked = guide.condition([example.source], [guide.words(example)])
        assert torch.allclose(trained.text, asked.text, atol=1e-6)
        assert torch.allclose(trained.null, asked.null, atol=1e-6)

    def test_nothing_but_the_edit_loss_is_minimised(self) -> None:
        editor = tiny_text_editor()
        guide = editor.guide
        assert isinstance(guide, TextGuide)
        batch = batch_for(guide)
        assert batch.mllm_pixels is None
        losses = editor.losses(batch, random_draws(editor, batch), Objective(loss_edit_weight=1.0))
        assert losses.loss_lm is None
        assert losses.loss_align is None
        assert torch.equal(losses.loss, losses.loss_edit)
        losses.loss.backward()  # type: ignore[no-untyped-call]
        gradient = guide.text_encoder.embeddings.token_embedding.weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0

    def test_dropped_text_is_the_empty_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        editor = tiny_text_editor()
        batch = batch_for(editor.guide)  # type: ignore[arg-type]
        seen: list[torch.Tensor] = []
        original = editor.predict

        def predict(
            noisy: torch.Tensor, source: torch.Tensor, steps: torch.Tensor, given: torch.Tensor
        ) -> torch.Tensor:
            seen.append(given)
            return original(noisy, source, steps, given)

        monkeypatch.setattr(editor, "predict", predict)
        draws = replace(random_draws(editor, batch), condition_dropout=torch.tensor([0.02, 0.07, 0.9]))
        editor.losses(batch, draws, Objective())
        losses = editor.guide.losses(batch)  # type: ignore[operator]
        expected = torch.stack([losses.null[0], losses.null[0], losses.text[2]])
        assert torch.allclose(seen[0], expected, atol=1e-6)

    def test_only_readers_of_expressive_instructions_need_them(self) -> None:
        example = replace(random_example(0), expressive_instruction=None)
        for reads, needs in (("instruction", False), ("expressive_instruction", True)):
            guide = tiny_text_guide(reads)  # type: ignore[arg-type]
            collator = EditCollator(guide.prompt, None, PairTransform(RESOLUTION))
            if needs:
                with pytest.raises(DataError, match=r"sample-0: training needs an expressive instruction"):
                    collator([example])
            else:
                assert collator([example]).expressive_instructions == [""]


class TestWriting:
    def test_reader_of_instructions_takes_the_raw_words(self) -> None:
        guide = tiny_text_guide().eval()
        condition = guide.condition([random_image(8, 8, seed=0)], ["warmer"])
        assert condition.expressive_instructions == ["warmer"]
        assert guide.words(random_example(0)) == random_example(0).instruction

    def test_without_a_writer_the_data_set_s_text_is_read(self) -> None:
        guide = tiny_text_guide("expressive_instruction").eval()
        assert guide.words(random_example(0)) == random_example(0).expressive_instruction
        with pytest.raises(DataError, match=r"sample-0: this system reads an expressive instruction, .* has none"):
            guide.words(replace(random_example(0), expressive_instruction=None))

    def test_a_writer_is_asked_with_image_and_instruction(self) -> None:
        guide = tiny_text_guide("expressive_instruction").eval()
        guide.writer = Parrot()
        assert guide.words(random_example(0)) == random_example(0).instruction
        sources = [random_image(width, 8, seed=0) for width in (8, 12)]
        condition = guide.condition(sources, ["warmer", "cooler"])
        assert condition.expressive_instructions == ["8 warmer", "12 cooler"]
        ids = torch.tensor([guide.prompt.ids("12 cooler")])
        assert torch.allclose(condition.text[1:], guide.text_encoder(ids).last_hidden_state, atol=1e-6)

    def test_an_mllm_writes_the_same_text_as_when_it_edits(self) -> None:
        writer = tiny_guide().eval()
        sources = [random_image(16, 16, seed=seed) for seed in range(2)]
        instructions = ["warmer", "give it much more contrast"]
        texts = writer.express(sources, instructions)
        assert texts == writer.condition(sources, instructions).expressive_instructions
        guide = tiny_text_guide("expressive_instruction").eval()
        guide.writer = writer
        assert guide.condition(sources, instructions).expressive_instructions == texts

    def test_a_result_does_not_depend_on_its_neighbours(self) -> None:
        guide = tiny_text_guide().eval()
        sources = [random_image(8, 8, seed=0)] * 2
        together = guide.condition(sources, ["warmer", "give it much more contrast"])
        alone = guide.condition(sources[1:], ["give it much more contrast"])
        assert torch.allclose(together.text[1:], alone.text, atol=1e-6)


@pytest.mark.faults
def test_tokenizer_with_more_tokens_than_the_encoder() -> None:
    small = make_text_encoder(
        vocab_size=7,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=5,
    )
    tokenizer = load_text_tokenizer("small")
    message = rf"text_encoder.vocab_size: expected at least the tokenizer's {len(tokenizer)} tokens, got 7"
    with pytest.raises(ValueError, match=message):
        TextGuide(small, tokenizer)


def test_length_of_a_text_is_the_encoder_s_number_of_positions() -> None:
    guide = TextGuide(tiny_text_encoder(), load_text_tokenizer("small"))
    assert guide.prompt.max_length == TEXT_LENGTH
    assert not guide.sees_image
