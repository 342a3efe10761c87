"""Everything that the checks of a bundle share: config, editor, training batch, recorded draws."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from omegaconf import DictConfig
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_datamodule, build_module
from mgie_lit.data.collate import EditCollator
from mgie_lit.editor import Editor
from mgie_lit.functional.pictures import to_rgb, upright
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.prompts import NO_VISUAL_TOKENS
from mgie_lit.training.module import EditModule
from mgie_lit.types import EditBatch, EditDraws, EditExample
from mgie_lit.vocabulary import IGNORE_INDEX
from parity_checks.bundle import TRAIN_INPUTS, TRAIN_MANIFEST, Bundle, BundleError, NotRecorded
from parity_checks.rebuild import load_weights, make_config, make_weights, normal
from parity_checks.rows import Table

_PIXELS = {"images", "p2p_inp_u8", "p2p_ans_u8"}
_STAND_IN = Image.new("RGB", (8, 8))  # where a bundle has texts but no pictures


@dataclass
class Rebuilt:
    """The reference's model as ours, and the training batch."""

    bundle: Bundle
    config: DictConfig
    editor: Editor
    weights: dict[str, Tensor] = field(repr=False)  # by the reference's names

    @property
    def guide(self) -> MLLMGuide:
        """The MLLM and what belongs to it."""
        return cast("MLLMGuide", self.editor.guide)

    @cached_property
    def module(self) -> EditModule:
        """What trains the editor; everything else is frozen."""
        return build_module(self.config, self.editor)

    @property
    def collator(self) -> EditCollator:
        """Makes batches as a training does."""
        return build_datamodule(self.config, self.editor).collator

    @cached_property
    def examples(self) -> list[EditExample]:
        """The training samples as a reader would give them."""
        if not self.bundle.texts:
            raise NotRecorded(f"no text in {TRAIN_MANIFEST}")
        return [
            EditExample(f"sample{index}", self._picture(index, 0), self._picture(index, 1), *texts)
            for index, texts in enumerate(self.bundle.texts)
        ]

    @cached_property
    def collated(self) -> EditBatch:
        """The training batch as we make it from texts and pictures."""
        return self.collator(self.examples)

    @cached_property
    def batch(self) -> EditBatch:
        """The training batch with what is recorded of it, so that a wrong id fails its own check and not all others."""
        recorded = self.bundle.inputs.keys()
        if not (recorded >= _PIXELS or all(map(self.has_pictures, range(len(self.examples))))):
            raise NotRecorded(f"neither pictures nor pixels in {TRAIN_INPUTS}")
        return self.with_recorded(self.collated, self.bundle.inputs)

    def with_recorded(self, batch: EditBatch, recorded: Mapping[str, Tensor]) -> EditBatch:
        """A batch of ours with recorded ids and pixels in place of its own.

        Args:
            batch: Of the same samples.
            recorded: By the names of the bundle; what is missing stays as it is.

        Returns:
            The batch; where ``[IMG0]`` stands is read off the labels, as the released code does.
        """
        changes: dict[str, Any] = {}
        if {"input_ids", "labels"} <= recorded.keys():
            ids, labels = recorded["input_ids"].long(), recorded["labels"].long()
            is_first = labels == self.guide.prompt.visual_ids[0]
            start = torch.where(is_first.any(1), is_first.int().argmax(1), NO_VISUAL_TOKENS)
            mask = recorded["attention_mask"].bool() if "attention_mask" in recorded else ids != self._pad_id
            changes |= {"input_ids": ids, "labels": labels, "attention_mask": mask, "visual_token_start": start}
            changes["label_positions"] = (labels[:, 1:] != IGNORE_INDEX).flatten().nonzero()[:, 0]
        if "images" in recorded:
            changes["mllm_pixels"] = recorded["images"]
        for ours, theirs in (("source", "p2p_inp_u8"), ("target", "p2p_ans_u8")):
            if theirs in recorded:
                changes[ours] = (2.0 * recorded[theirs].double() / 255.0 - 1.0).float()
        return replace(batch, **changes)

    def has_pictures(self, index: int) -> bool:
        """Whether source and target of a sample are recorded."""
        return all(f"jpeg.{index}.{which}" in self.bundle.inputs for which in (0, 1))

    def rows(self, indices: Sequence[int]) -> EditBatch:
        """Some samples of the training batch, in this order, padded to the longest of them."""
        batch, chosen = self.batch, torch.tensor(indices)
        assert batch.mllm_pixels is not None
        assert batch.source is not None
        assert batch.target is not None
        length = int(batch.attention_mask[chosen].any(0).nonzero().max()) + 1
        return EditBatch(
            sample_ids=[batch.sample_ids[index] for index in indices],
            instructions=[batch.instructions[index] for index in indices],
            expressive_instructions=[batch.expressive_instructions[index] for index in indices],
            source=batch.source[chosen],
            target=batch.target[chosen],
            mllm_pixels=batch.mllm_pixels[chosen],
            input_ids=batch.input_ids[chosen, :length],
            attention_mask=batch.attention_mask[chosen, :length],
            labels=batch.labels[chosen, :length],
            visual_token_start=batch.visual_token_start[chosen],
        )

    def draws(self, name: str, recorded: Mapping[str, Tensor], choices: Mapping[str, Any]) -> EditDraws:
        """Draws of a recorded step; noise that is not stored is made from its name, as the recording's was.

        Args:
            name: Of the step.
            recorded: Tensors of the step.
            choices: ``ts``, the timesteps, and ``prob``, one uniform number a sample for the dropout of the conditions;
                where they are no tensors of the step.

        Returns:
            The draws.

        Raises:
            NotRecorded: Timesteps or dropout are recorded nowhere.
        """
        for key in ("ts", "prob"):
            if f"draw.{key}" not in recorded and key not in choices:
                raise NotRecorded(f"no {key} is recorded for {name}")
        ts, prob = (recorded.get(f"draw.{key}", choices.get(key)) for key in ("ts", "prob"))
        timesteps = torch.as_tensor(ts, dtype=torch.int64)
        side = self.config.size.resolution
        shape = (len(timesteps), *self.editor.latent_shape(side, side))
        noise, latent_noise = (
            recorded[f"draw.{kind}"]
            if f"draw.{kind}" in recorded
            else normal(f"{name}.{kind}", shape, seed=self.bundle.train["seed"])
            for kind in ("noise", "vae_eps")
        )
        dropout = torch.as_tensor(prob, dtype=torch.float32)
        return EditDraws(noise=noise, latent_noise=latent_noise, timesteps=timesteps, condition_dropout=dropout)

    @property
    def _pad_id(self) -> int:
        return int(self.guide.prompt.tokenizer.pad_token_id)

    def restore(self) -> None:
        """Put the recipe's weights back, after a training or where a case had others."""
        load_weights(self.editor, self.weights)
        self.editor.zero_grad(set_to_none=True)

    def _picture(self, index: int, which: int) -> Image.Image:
        name = f"jpeg.{index}.{which}"
        if name not in self.bundle.inputs:
            return _STAND_IN
        try:
            with Image.open(io.BytesIO(self.bundle.inputs[name].numpy().tobytes())) as image:
                image.load()
                return to_rgb(upright(image))
        except (UnidentifiedImageError, OSError) as error:
            raise BundleError(
                f"train_inputs.safetensors: expected the bytes of a JPEG file in {name}, can not read them ({error}); "
                "copy the bundle again"
            ) from error


def rebuild(bundle: Bundle, table: Table) -> Rebuilt:
    """Config, editor and weights of a bundle.

    Args:
        bundle: With its training manifest and tokenizer.
        table: Gets rows on the weights.

    Returns:
        The reference's model as ours.

    Raises:
        BundleError: The manifest's sizes and weights do not make a model.
    """
    config = make_config(bundle)
    weights = make_weights(bundle, table)
    editor = build_editor(config)
    load_weights(editor, weights)
    return Rebuilt(bundle, config, editor, weights)
