"""Both sides of a training step: ours, and the released code's, plain or with some switches on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from diffusers.models.activations import GEGLU
from reference_step import IGNORED, PLAIN_KINDS, Losses, Yardstick, plain_attention
from shared.measures import YARDSTICK
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from mgie_lit.editor import Editor
from mgie_lit.types import EditBatch, EditDraws
from step_sides.case import Case

OURS, OURS_CACHED, OURS_NEW_ROWS = "no caches", "caches", "caches, new rows"
NOTHING = "nothing"  # libraries, model and batch, without a step
SIDES = ("ours", YARDSTICK, NOTHING)
CLIP_NORM = 1.0
FUSED = "fused AdamW"
SWITCHES = (
    "null condition once",
    "scores at labels only",
    "no idle layers of the tower",
    "attention kernels",
    "gates computed twice",
    "norms in one operation",
    "channels last in the autoencoder",
    FUSED,
    "cached latents",
    "cached vision states",
)
DERIVED = {"gates computed twice": (LlamaMLP, GEGLU), "norms in one operation": (LlamaRMSNorm,)}

Step = Callable[[], Tensor]


class Switched(Yardstick):
    """The plain step with some switches on.

    Args:
        editor: As of :class:`Yardstick`.
        on: Names of ``SWITCHES``.
        cached: Batch that brings latents and vision states.
    """

    def __init__(self, editor: Editor, on: set[str], cached: EditBatch) -> None:
        super().__init__(editor)
        self.on, self.cached = on, cached
        ours = {kind for name, kinds in DERIVED.items() if name in on for kind in kinds}
        self.plain_kinds = tuple(kind for kind in PLAIN_KINDS if kind not in ours)

    def _attention(self, *models: Any) -> Any:  # noqa: ANN401
        return plain_attention(*(() if "attention kernels" in self.on else models))

    def _vision(self, pixels: Tensor) -> Tensor:
        if "cached vision states" in self.on:
            assert self.cached.vision_states is not None
            return self.cached.vision_states
        if "no idle layers of the tower" not in self.on:
            return super()._vision(pixels)
        states = self.tower.pre_layrnorm(self.tower.embeddings(pixels))
        for layer in self.tower.encoder.layers[: self.select_layer + 1 or None]:
            states = layer(states, None)
        return cast("Tensor", states[:, 1:])

    def _loss_ce(self, hidden: Tensor, labels: Tensor) -> Tensor:
        if "scores at labels only" not in self.on:
            return super()._loss_ce(hidden, labels)
        following = labels[:, 1:]
        where = following != IGNORED
        return nn.functional.cross_entropy(self.llm.lm_head(hidden[:, :-1][where]).float(), following[where])

    def _null(self, states: Tensor, rows: Tensor) -> Tensor:
        if "null condition once" not in self.on:
            return super()._null(states, rows)
        return self._head(torch.zeros_like(states[:1]), rows[:1])

    def _latents(self, batch: EditBatch, draws: EditDraws) -> tuple[Tensor, Tensor]:
        if "channels last in the autoencoder" in self.on:
            assert batch.source is not None
            assert batch.target is not None
            source, target = (each.to(memory_format=torch.channels_last) for each in (batch.source, batch.target))
            return super()._latents(replace(batch, source=source, target=target), draws)
        if "cached latents" not in self.on:
            return super()._latents(batch, draws)
        assert self.cached.source_latents is not None
        assert self.cached.target_mean is not None
        assert self.cached.target_std is not None
        clean = (self.cached.target_mean + self.cached.target_std * draws.latent_noise) * self.scaling
        return self.cached.source_latents, clean


def our_step(case: Case, *, cached: bool = False) -> Step:
    """Our losses."""
    batch = case.cached if cached else case.batch
    return lambda: case.editor.losses(batch, case.draws, case.objective).loss


def plain_step(case: Case, on: Sequence[str] = ()) -> Step:
    """The released code's losses, with some switches on."""
    yardstick = Switched(case.editor, set(on), case.cached)
    losses: Callable[[], Losses] = lambda: yardstick.losses(case.batch, case.draws)  # noqa: E731
    return lambda: losses().loss


def run_step(case: Case, losses: Step, optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step."""
    optimizer.zero_grad(set_to_none=True)
    losses().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trained(case.editor), CLIP_NORM)
    optimizer.step()


def trained(editor: Editor) -> list[nn.Parameter]:
    """What trains."""
    return [parameter for parameter in editor.parameters() if parameter.requires_grad]


def adamw(case: Case, *, fused: bool) -> torch.optim.Optimizer:
    """The optimizer of either side; a rate of zero, so that the weights stay what they are."""
    return torch.optim.AdamW(trained(case.editor), lr=0.0, weight_decay=0.0, fused=True if fused else None)
