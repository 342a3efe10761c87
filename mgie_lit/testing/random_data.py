"""Random images, examples and batches; the same ones at every call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from mgie_lit.data.collate import EditCollator
from mgie_lit.data.transforms import PairTransform
from mgie_lit.editor import Editor
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.types import EditBatch, EditDraws, EditExample

RESOLUTION = 16  # pixels, side of the training images

_INSTRUCTIONS = ("make it brighter", "turn the photo grayscale, please", "warmer", "give it much more contrast")
_EXPRESSIVE = (
    "the picture would be brighter",
    "the photo would be in black and white without any color",
    "warm light",
    "stronger contrast between the dark and the bright parts",
)


def random_image(width: int, height: int, *, seed: int) -> Image.Image:
    """RGB image of uniform noise.

    Args:
        width: Pixels.
        height: Pixels.
        seed: Of the noise.

    Returns:
        The image; the same one for the same arguments.
    """
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels, mode="RGB")


def random_example(index: int) -> EditExample:
    """An example with random images, ``sample-<index>``; the same one at every call.

    Args:
        index: From 0; neighbours have instructions of other lengths.

    Returns:
        Source and target of ``RESOLUTION`` squared, unrelated to each other and to the words.
    """
    return EditExample(
        sample_id=f"sample-{index}",
        source=random_image(RESOLUTION, RESOLUTION, seed=2 * index),
        target=random_image(RESOLUTION, RESOLUTION, seed=2 * index + 1),
        instruction=_INSTRUCTIONS[index % len(_INSTRUCTIONS)],
        expressive_instruction=_EXPRESSIVE[index % len(_EXPRESSIVE)],
    )


class RandomDataset:
    """A data set of random examples.

    Args:
        split: Any name; it goes into the ids, so that splits are disjoint.
        num_examples: Size.
    """

    def __init__(self, split: str, num_examples: int) -> None:
        self.split = split
        self.num_examples = num_examples

    def __len__(self) -> int:
        """Number of examples."""
        return self.num_examples

    def __getitem__(self, index: int) -> EditExample:
        """The example at ``index``."""
        example = random_example(index)
        return EditExample(
            sample_id=self.sample_id(index),
            source=example.source,
            target=example.target,
            instruction=example.instruction,
            expressive_instruction=example.expressive_instruction,
        )

    def sample_id(self, index: int) -> str:
        """Id of the example at ``index``."""
        return f"{self.split}-{index}"


def tiny_collator(guide: MLLMGuide) -> EditCollator:
    """Makes batches of ``RESOLUTION`` pixels for a guide.

    Args:
        guide: Its prompt and image processor are used.

    Returns:
        Examples -> ``EditBatch``.
    """
    return EditCollator(guide.prompt, guide.image_processor, PairTransform(RESOLUTION))


def random_batch(editor: Editor, indices: Sequence[int] = (0, 1, 2)) -> EditBatch:
    """A batch of random examples for an editor.

    Args:
        editor: With an ``MLLMGuide``.
        indices: Of the examples.

    Returns:
        One row for each index, on the CPU.
    """
    assert isinstance(editor.guide, MLLMGuide)
    return tiny_collator(editor.guide)([random_example(index) for index in indices])


def random_draws(editor: Editor, batch: EditBatch, *, seed: int = 0) -> EditDraws:
    """Draws of a training step in which no condition is dropped.

    Args:
        editor: Gives the shape of the latents and the number of timesteps.
        batch: Of the step.
        seed: Of the draws.

    Returns:
        Draws for every row of the batch, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (len(batch), *editor.batch_latent_shape(batch))
    return EditDraws(
        noise=torch.randn(shape, generator=generator),
        latent_noise=torch.randn(shape, generator=generator),
        timesteps=torch.randint(len(editor.scheduler.alphas_cumprod), (len(batch),), generator=generator),
        condition_dropout=torch.ones(len(batch)),
    )
