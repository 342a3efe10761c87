"""The released code's training step and edit, written down plainly: what our speed is measured against.

    python benchmarks/reference_step.py --golden DIR

Everything is done as the released code does it, wasteful or not: scores of all words at all positions, a null condition
for every sample, both images through the autoencoder and the source through all of the vision tower in each step, the
hidden states of all layers kept, attention that writes its weights out, and one pass of the language model for every
word, visual tokens too. It works on the parts of one of our editors, so that both sides have the same weights, and
shares no code with our own step. DIR is a recording of the released code (as for ``parity.py``), which this has to
agree with; only then is it a fair yardstick. The last line is the count of checks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from mgie_lit.editor import Editor
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.key_values import CACHE_ARGUMENT
from mgie_lit.types import EditBatch, EditDraws

IGNORED = -100
PLAIN_KINDS = (LlamaMLP, GEGLU, LlamaRMSNorm)  # of which ours derive others
DROP_TEXT_BELOW, DROP_IMAGE_FROM, DROP_IMAGE_BELOW = 0.10, 0.05, 0.15  # of one uniform number a sample
EDIT_WEIGHT = 0.5
MAX_NEW_TOKENS, NO_REPEAT = 96, 3


@dataclass
class Losses:
    """Of one training step, with graph."""

    loss: Tensor
    loss_ce: Tensor
    loss_edit: Tensor


@dataclass
class Written:
    """What the language model wrote."""

    ids: list[int]  # prompt and answer
    hidden: list[tuple[Tensor, ...]]  # of every pass, those of all layers


class Yardstick:
    """The released step and edit on the parts of an editor.

    Args:
        editor: With an MLLM that sees images; its parts are used, its own code is not.
    """

    def __init__(self, editor: Editor) -> None:
        guide = cast("MLLMGuide", editor.guide)
        mllm = guide.mllm
        self.tower: Any = mllm.vision_tower
        self.select_layer = mllm.vision_layer
        self.projector = cast("nn.Module", mllm.projector)
        self.llm: Any = mllm.language_model
        self.edit_head: Any = guide.edit_head
        self.unet: Any = editor.unet
        self.vae: Any = editor.autoencoder
        self.scheduler = editor.scheduler
        self.alphas = editor.scheduler.alphas_cumprod
        self.scaling = float(self.vae.config.scaling_factor)
        self.patch_id, self.visual_ids = guide.prompt.image_patch_id, guide.prompt.visual_ids
        self.end_id = int(guide.prompt.tokenizer.eos_token_id)
        self.plain_kinds: Sequence[type[nn.Module]] = PLAIN_KINDS

    @property
    def visual_rows(self) -> Tensor:
        """Word embeddings of the visual tokens, ``(V, D)``."""
        table: Tensor = self.llm.model.embed_tokens.weight
        return table[self.visual_ids]

    def losses(self, batch: EditBatch, draws: EditDraws) -> Losses:
        """Losses of a training step, ``loss_ce + 0.5 loss_edit``."""
        with plain_parts(self.plain_kinds, self.llm, self.unet):
            return self._losses(batch, draws)

    def _losses(self, batch: EditBatch, draws: EditDraws) -> Losses:
        assert batch.mllm_pixels is not None
        with self._attention(self.llm, self.tower):
            embeddings = self._spliced(batch.input_ids, batch.mllm_pixels)  # (B, S, D)
            outputs = self.llm.model(
                inputs_embeds=embeddings,
                attention_mask=batch.attention_mask.long(),
                use_cache=False,
                output_hidden_states=True,
            )
        hidden = outputs.hidden_states[-1]  # (B, S, D)
        loss_ce = self._loss_ce(hidden, batch.labels)
        states = self._slices(hidden, [row.tolist() for row in batch.labels.cpu()])  # (B, V, D)
        rows = self.visual_rows.expand(len(states), -1, -1)
        text = self._head(states, rows)  # (B, Q, E)
        null = self._null(states, rows)  # (B, Q, E)
        loss_edit = self._edit_loss(batch, draws, text, null)
        return Losses(loss_ce + EDIT_WEIGHT * loss_edit, loss_ce, loss_edit)

    @torch.no_grad()
    def write(self, prompt_ids: Sequence[int], pixels: Tensor) -> Written:
        """Greedy decoding, word by word.

        Args:
            prompt_ids: With the image's ids.
            pixels: ``(1, 3, P, P)`` of the vision tower.

        Returns:
            Ids and hidden states; it ends after the end token or ``MAX_NEW_TOKENS``.
        """
        ids, kept = list(prompt_ids), []
        with plain_attention(self.llm, self.tower), plain_parts(self.plain_kinds, self.llm):
            embeddings = self._spliced(torch.tensor([ids], device=self.unet.device), pixels)
            cache = None
            for _ in range(MAX_NEW_TOKENS):
                outputs = self.llm(
                    inputs_embeds=embeddings, **{CACHE_ARGUMENT: cache}, use_cache=True, output_hidden_states=True
                )
                kept.append(outputs.hidden_states)
                cache = outputs[CACHE_ARGUMENT]
                scores = outputs.logits[0, -1].float()
                scores[_repeating(ids)] = -torch.inf
                ids.append(int(scores.argmax()))
                if ids[-1] == self.end_id:
                    break
                embeddings = self.llm.model.embed_tokens(torch.tensor([[ids[-1]]], device=self.unet.device))
        return Written(ids, kept)

    @torch.no_grad()
    def condition(self, written: Written, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Condition and null condition of an answer.

        Args:
            written: From :meth:`write`.
            rows: ``(V, D)`` word embeddings of the visual tokens, where they are not those of the table.

        Returns:
            ``(1, Q, E)`` each.
        """
        hidden = torch.cat([states[-1] for states in written.hidden], dim=1)  # (1, S, D)
        states = self._slices(hidden, [written.ids])
        rows = (self.visual_rows if rows is None else rows)[None]
        return self._head(states, rows), self._head(torch.zeros_like(states), rows)

    @torch.no_grad()
    def paint(
        self,
        source: Tensor,
        text: Tensor,
        null: Tensor,
        latents: Tensor,
        *,
        num_steps: int,
        guidance: tuple[float, float],
        scheduler: Any = None,  # noqa: ANN401
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The diffusion part, three passes a step in one batch.

        Args:
            source: ``(1, 3, H, W)`` in [-1, 1].
            text: ``(1, Q, E)``.
            null: ``(1, Q, E)``.
            latents: ``(1, C, h, w)`` standard normal.
            num_steps: Denoising steps.
            guidance: Text and image scale.
            scheduler: Of diffusers; None = the editor's.
            noise: Of each step, for schedulers that add some; None = drawn.

        Returns:
            ``(1, 3, H, W)`` in [0, 1].
        """
        scheduler = deepcopy(self.scheduler if scheduler is None else scheduler)
        scheduler.set_timesteps(num_steps, device=self.unet.device)
        image = self.vae.encode(source).latent_dist.mode()
        images = torch.cat([image, image, torch.zeros_like(image)])
        embeddings = torch.cat([text, null, null])
        latents = latents * scheduler.init_noise_sigma
        for index, timestep in enumerate(scheduler.timesteps):
            scaled = scheduler.scale_model_input(torch.cat([latents] * 3), timestep)
            inputs = torch.cat([scaled, images], dim=1)
            with_text, with_image, with_none = self.unet(inputs, timestep, encoder_hidden_states=embeddings)[0].chunk(3)
            guided = with_none + guidance[0] * (with_text - with_image) + guidance[1] * (with_image - with_none)
            with _drawn(scheduler, None if noise is None else noise[index]):
                latents = scheduler.step(guided, timestep, latents).prev_sample
        pixels: Tensor = self.vae.decode(latents / self.scaling).sample
        return (pixels / 2 + 0.5).clamp(0, 1)

    def _spliced(self, input_ids: Tensor, pixels: Tensor) -> Tensor:
        """Word embeddings with the image's features in their places, sample by sample."""
        with torch.no_grad():
            features = self.projector(self._vision(pixels).to(next(self.projector.parameters()).dtype))
        embeddings = self.llm.model.embed_tokens(input_ids)
        rows = []
        for ids, words, picture in zip(input_ids, embeddings, features, strict=True):
            first = int((ids == self.patch_id).nonzero()[0])
            rows.append(torch.cat([words[:first], picture, words[first + len(picture) :]]))
        return torch.stack(rows)

    def _vision(self, pixels: Tensor) -> Tensor:
        states = self.tower(pixels.to(self.tower.dtype), output_hidden_states=True).hidden_states
        return cast("Tensor", states[self.select_layer][:, 1:])

    def _loss_ce(self, hidden: Tensor, labels: Tensor) -> Tensor:
        logits = self.llm.lm_head(hidden).float()  # (B, S, vocabulary)
        return nn.functional.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=IGNORED
        )

    def _slices(self, hidden: Tensor, ids: Sequence[list[int]]) -> Tensor:
        """States that predict the visual tokens, looked for in ids on the host."""
        count = len(self.visual_ids)
        last = hidden.shape[1] - count - 1
        starts = [min(row.index(self.visual_ids[0]) - 1, last) if self.visual_ids[0] in row else last for row in ids]
        return torch.stack([states[start : start + count] for states, start in zip(hidden, starts, strict=True)])

    def _head(self, states: Tensor, rows: Tensor) -> Tensor:
        memory = self.edit_head.llm2hid(states + rows)
        queries = self.edit_head.query.repeat(len(memory), 1, 1)
        condition: Tensor = self.edit_head.hid2feat(self.edit_head.mapper(memory, queries))
        return condition

    def _null(self, states: Tensor, rows: Tensor) -> Tensor:
        return self._head(torch.zeros_like(states), rows)

    def _attention(self, *models: Any) -> AbstractContextManager[None]:  # noqa: ANN401
        return plain_attention(*models)

    def _latents(self, batch: EditBatch, draws: EditDraws) -> tuple[Tensor, Tensor]:
        source = self.vae.encode(batch.source).latent_dist.mode()
        target = self.vae.encode(batch.target).latent_dist
        return source, (target.mean + target.std * draws.latent_noise) * self.scaling

    def _edit_loss(self, batch: EditBatch, draws: EditDraws, text: Tensor, null: Tensor) -> Tensor:
        device = text.device
        with torch.no_grad():
            source, sample = self._latents(batch, draws)
            # by way of the host, as there
            source = torch.from_numpy(source.float().cpu().numpy()).to(device)
            clean = torch.from_numpy(sample.float().cpu().numpy()).to(device)
        uniform = np.asarray(draws.condition_dropout.tolist(), dtype=np.float32)
        no_text = torch.from_numpy(uniform < np.float32(DROP_TEXT_BELOW)).to(device)
        no_image = (uniform >= np.float32(DROP_IMAGE_FROM)) & (uniform < np.float32(DROP_IMAGE_BELOW))
        condition = torch.where(no_text[:, None, None], null, text)
        source = source * torch.from_numpy(1.0 - no_image.astype(np.float32)).to(device)[:, None, None, None]
        alphas = self.alphas.to(device)[draws.timesteps][:, None, None, None]
        noisy = alphas.sqrt() * clean + (1 - alphas).sqrt() * draws.noise
        output = self.unet(torch.cat([noisy, source], 1), draws.timesteps, encoder_hidden_states=condition)[0]
        return nn.functional.mse_loss(output.float(), draws.noise.float())


@contextmanager
def plain_attention(*models: Any) -> Iterator[None]:  # noqa: ANN401
    """Attention as it was: softmax of a matrix that is written out."""
    before = [model.config._attn_implementation for model in models]
    for model in models:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        for model, name in zip(models, before, strict=True):
            model.set_attn_implementation(name)


@contextmanager
def plain_parts(kinds: Sequence[type[nn.Module]], *models: nn.Module) -> Iterator[None]:
    """Parts of models as the libraries have them, where ours are of classes derived from these."""
    before = {part: type(part) for model in models for part in model.modules()}
    for part in before:
        part.__class__ = next((plain for plain in kinds if isinstance(part, plain)), type(part))
    try:
        yield
    finally:
        for part, kind in before.items():
            part.__class__ = kind


def _repeating(ids: list[int]) -> list[int]:
    """Words that would write an n-gram of ``NO_REPEAT`` words a second time."""
    tail = tuple(ids[len(ids) - NO_REPEAT + 1 :])
    ends = range(NO_REPEAT - 1, len(ids))
    return [ids[end] for end in ends if tuple(ids[end - NO_REPEAT + 1 : end]) == tail]


@contextmanager
def _drawn(scheduler: Any, noise: Tensor | None) -> Iterator[None]:  # noqa: ANN401
    """Let a scheduler add given noise."""
    module = sys.modules[type(scheduler).__module__]
    if noise is None or not hasattr(module, "randn_tensor"):
        yield
        return
    plain = module.randn_tensor
    module.randn_tensor = lambda *_, **__: noise  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.randn_tensor = plain  # type: ignore[attr-defined]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare with a recording.

    Args:
        argv: Arguments; None = those of the process.

    Returns:
        The exit status: 0, or 1 where a number differs, 2 where the folder is none.
    """
    from parity_checks.bundle import Bundle, BundleError
    from parity_checks.rows import render
    from parity_checks.yardstick import check_yardstick

    parser = argparse.ArgumentParser(description="Compare the plain step and edit with recorded runs.")
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="folder with the recorded numbers")
    arguments = parser.parse_args(argv)
    try:
        table = check_yardstick(Bundle(arguments.golden))
    except BundleError as error:
        print(error, file=sys.stderr)
        return 2
    print(render(table.rows))
    print()
    print(table.summary())
    return 1 if table.count("failed") or not table.count("ok") else 0


if __name__ == "__main__":
    sys.exit(main())
