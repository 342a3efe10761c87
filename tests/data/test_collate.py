from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.data.collate import CutDataset, EditCollator
from mgie_lit.data.transforms import INTERMEDIATE_SIDE, PairTransform, TwoStepTransform
from mgie_lit.errors import DataError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.testing.random_data import RESOLUTION, random_example, random_image, tiny_collator
from mgie_lit.testing.tiny_models import VISION_SIZE, tiny_guide
from mgie_lit.vocabulary import IGNORE_INDEX


@pytest.fixture(scope="module")
def guide() -> MLLMGuide:
    return tiny_guide()


@pytest.fixture(scope="module")
def collator(guide: MLLMGuide) -> EditCollator:
    return tiny_collator(guide)


def test_rows_are_padded_on_the_right(collator: EditCollator) -> None:
    examples = [random_example(index) for index in range(3)]
    batch = collator(examples)
    rows = [
        collator.prompt.training_row(example.instruction, example.expressive_instruction or "") for example in examples
    ]
    longest = max(len(row.input_ids) for row in rows)
    assert len({len(row.input_ids) for row in rows}) == 3
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.labels.shape == (3, longest)
    for index, row in enumerate(rows):
        padding = longest - len(row.input_ids)
        assert batch.input_ids[index].tolist() == row.input_ids + [0] * padding
        assert batch.attention_mask[index].tolist() == [True] * len(row.input_ids) + [False] * padding
        assert batch.labels[index].tolist() == row.labels + [IGNORE_INDEX] * padding


def test_visual_tokens_are_where_the_batch_says(collator: EditCollator) -> None:
    batch = collator([random_example(index) for index in range(3)])
    visual_ids = collator.prompt.visual_ids
    for row, start in enumerate(batch.visual_token_start.tolist()):
        assert batch.input_ids[row, start : start + 8].tolist() == visual_ids
        assert batch.input_ids[row].tolist().count(visual_ids[0]) == 1


def test_a_real_unknown_token_is_not_taken_for_padding(collator: EditCollator) -> None:
    """Padding and ``<unk>`` share id 0."""
    batch = collator([replace(random_example(0), instruction="日本 日本"), random_example(1)])
    is_unknown = (batch.input_ids[0] == 0) & batch.attention_mask[0]
    assert is_unknown.sum() >= 2


def test_images_are_signed_tensors_in_the_order_of_the_examples(collator: EditCollator) -> None:
    examples = [random_example(index) for index in (4, 2)]
    batch = collator(examples)
    assert batch.source.shape == batch.target.shape == (2, 3, RESOLUTION, RESOLUTION)
    assert batch.source.dtype == torch.float32
    for row, example in enumerate(examples):
        for tensor, image in ((batch.source, example.source), (batch.target, example.target)):
            expected = np.asarray(image).transpose(2, 0, 1) / 127.5 - 1
            np.testing.assert_allclose(tensor[row].numpy(), expected, atol=1e-6)
    assert batch.sample_ids == ["sample-4", "sample-2"]
    assert batch.instructions == [example.instruction for example in examples]
    assert batch.expressive_instructions == [example.expressive_instruction for example in examples]


def test_vision_tower_gets_the_source_as_its_processor_makes_it(collator: EditCollator, guide: MLLMGuide) -> None:
    example = random_example(0)
    batch = collator([example])
    assert batch.mllm_pixels.shape == (1, 3, VISION_SIZE, VISION_SIZE)
    assert torch.equal(batch.mllm_pixels, guide.image_processor([example.source], return_tensors="pt")["pixel_values"])


def test_levels_go_from_process_to_process_and_give_the_same_batch(collator: EditCollator) -> None:
    examples = [random_example(index) for index in range(3)]
    dataset = CutDataset(examples, collator)  # type: ignore[arg-type]
    assert len(dataset) == 3
    levels = collator.collect([dataset[index] for index in range(3)])
    batch, whole = collator.finish(levels), collator(examples)
    for name in ("source", "target", "mllm_pixels"):
        assert getattr(levels, name).dtype == torch.uint8
        assert getattr(batch, name).dtype == torch.float32
        assert torch.equal(getattr(batch, name), getattr(whole, name))
        assert torch.equal(getattr(batch, name), collator.images(examples)[name])
    assert collator.finish(batch) is batch


def test_without_eyes(guide: MLLMGuide) -> None:
    collator = EditCollator(guide.prompt, None, PairTransform(RESOLUTION))
    batch = collator([random_example(0)])
    assert batch.mllm_pixels is None
    assert batch.source.shape == (1, 3, RESOLUTION, RESOLUTION)


@pytest.mark.parametrize("size", [(700, 512), (300, 410), (512, 512)])
def test_released_pixels_are_those_of_the_plain_steps(guide: MLLMGuide, size: tuple[int, int]) -> None:
    image = random_image(*size, seed=1)
    collator = EditCollator(guide.prompt, guide.image_processor, TwoStepTransform(RESOLUTION))
    batch = collator([replace(random_example(0), source=image, target=image)])
    edge, kernel = min(size), Image.Resampling.BICUBIC
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    square = image.crop((left, top, left + edge, top + edge)).resize((INTERMEDIATE_SIDE, INTERMEDIATE_SIDE), kernel)
    plain = np.array(square.resize((RESOLUTION, RESOLUTION), kernel)) / 255
    expected = torch.from_numpy(2 * plain - 1).permute(2, 0, 1).float()
    assert (batch.source[0] - expected).abs().max() <= 1e-7
    assert torch.equal(batch.mllm_pixels, guide.image_processor([square], return_tensors="pt")["pixel_values"])


def test_source_target_and_vision_see_the_same_cut(guide: MLLMGuide) -> None:
    image = random_image(40, 24, seed=0)
    example = replace(random_example(0), source=image, target=image)
    collator = EditCollator(guide.prompt, guide.image_processor, PairTransform(RESOLUTION))
    batch = collator([example])
    assert torch.equal(batch.source, batch.target)
    cut = PairTransform(RESOLUTION)(example).source
    assert torch.equal(batch.mllm_pixels, guide.image_processor([cut], return_tensors="pt")["pixel_values"])


def test_target_is_needed(collator: EditCollator) -> None:
    with pytest.raises(DataError, match="sample-1: training needs a target image, the data set has none for it"):
        collator([random_example(0), replace(random_example(1), target=None)])


def test_expressive_instruction_is_needed(collator: EditCollator) -> None:
    message = "sample-1: training needs an expressive instruction, .*; add what the result looks like"
    with pytest.raises(DataError, match=message):
        collator([random_example(0), replace(random_example(1), expressive_instruction=None)])
