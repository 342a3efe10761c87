"""The plain step in parts, which are timed by themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from reference_step import PLAIN_KINDS, Yardstick, plain_attention, plain_parts
from shared.measures import YARDSTICK

from step_sides.case import Case
from step_sides.sides import OURS, OURS_CACHED, OURS_NEW_ROWS, SWITCHES, adamw


class Parts:
    """The plain step in parts, each with its backward where it has one.

    Args:
        case: What is trained.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.plain = case, Yardstick(case.editor)
        self.optimizer = adamw(case, fused=False)
        batch, draws = case.batch, case.draws
        with torch.no_grad():
            assert batch.mllm_pixels is not None
            self.embeddings = self.plain._spliced(batch.input_ids, batch.mllm_pixels)
            self.hidden = case.editor.guide.mllm(self.embeddings)  # type: ignore[operator, union-attr]
            self.states = self.plain._slices(self.hidden, batch.labels.tolist())
            self.text = self.plain._head(self.states, self.plain.visual_rows)
            self.latents = self.plain._latents(batch, draws)
        self.calls: dict[str, Callable[[], object]] = {
            "vision tower": self._tower,
            "language model": self._language,
            "language model, forward": self._language_forward,
            "scores and cross entropy": self._scores,
            "autoencoder": self._autoencoder,
            "edit head": self._head,
            "UNet": self._unet,
            "optimizer": self.optimizer.step,
        }

    @staticmethod
    def names(times: dict[str, list[float]]) -> list[str]:
        """Those of the parts among all that was measured."""
        variants = {YARDSTICK, *SWITCHES, OURS, OURS_CACHED, OURS_NEW_ROWS}
        return [name for name in times if name not in variants]

    @torch.no_grad()
    def _tower(self) -> None:
        assert self.case.batch.mllm_pixels is not None
        self.plain._vision(self.case.batch.mllm_pixels)

    def _language(self) -> None:
        embeddings = self.embeddings.clone().requires_grad_()
        with plain_attention(self.plain.llm), plain_parts(PLAIN_KINDS, self.plain.llm):
            states = self.plain.llm.model(inputs_embeds=embeddings, output_hidden_states=True).hidden_states[-1]
        states.sum().backward()

    @torch.no_grad()
    def _language_forward(self) -> None:
        with plain_parts(PLAIN_KINDS, self.plain.llm):
            self.plain.llm.model(inputs_embeds=self.embeddings)

    def _scores(self) -> None:
        hidden = self.hidden.clone().requires_grad_()
        self.plain._loss_ce(hidden, self.case.batch.labels).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _autoencoder(self) -> None:
        self.plain._latents(self.case.batch, self.case.draws)

    def _head(self) -> None:
        states, rows = self.states.clone().requires_grad_(), self.plain.visual_rows.expand(len(self.states), -1, -1)
        (self.plain._head(states, rows) + self.plain._null(states, rows)).sum().backward()  # type: ignore[no-untyped-call]

    def _unet(self) -> None:
        text, draws = self.text.clone().requires_grad_(), self.case.draws
        inputs = torch.cat([draws.noise, self.latents[0]], dim=1)
        self.plain.unet(inputs, draws.timesteps, encoder_hidden_states=text)[0].square().mean().backward()
