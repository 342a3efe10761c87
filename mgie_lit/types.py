"""Typed records that pass between the parts.

Axes: ``B`` batch, ``S`` text positions, ``V`` visual tokens, ``Q`` queries, ``D`` width, ``C`` latent channels,
``H W`` pixels, ``h w`` latent positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from PIL import Image
    from torch import Tensor

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class EditExample:
    """One row of a data set, on the host; what every reader gives."""

    sample_id: str  # unique within the data set, safe as a file name
    source: Image.Image  # RGB
    target: Image.Image | None  # RGB; None where there is no ground truth
    instruction: str  # the human's words
    expressive_instruction: str | None = None  # what the result looks like, in the MLLM's words
    caption: str | None = None  # description of the target, for CLIP-T
    mask: Image.Image | None = None  # L, source's size; 255 = the edit may change it
    turn: int = 1  # position within its session, from 1
    session_id: str = ""  # samples that are not independent (same photograph, same chat); "" = its own
    # Facts for tables by group, e.g. {"operation": "brighter"}.
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditedImage:
    """What a system made of one example."""

    image: Image.Image  # RGB, the source's size
    expressive_instruction: str = ""  # what the system understood; "" where it writes none


@dataclass(slots=True)
class EditBatch:
    """What a training step or an evaluation sees of several examples."""

    sample_ids: list[str]
    instructions: list[str]
    expressive_instructions: list[str]
    source: Tensor | None  # (B, 3, H, W) float32 in [-1, 1]; None = its latents are given below
    target: Tensor | None  # (B, 3, H, W) float32 in [-1, 1]; None = its latents are given below
    mllm_pixels: (
        Tensor | None
    )  # (B, 3, P, P) float32, normalised as the vision tower wants it; None = no tower, or its states are given
    input_ids: Tensor  # (B, S) int64, of the MLLM's or the text encoder's tokenizer
    attention_mask: Tensor  # (B, S) bool, True = a real token
    labels: Tensor  # (B, S) int64, IGNORE_INDEX = no loss
    visual_token_start: Tensor  # (B,) int64, position of [IMG0] in input_ids; -1 = there is none
    # (N,) int64, where labels[:, 1:].flatten() has labels, found on the host so that no step waits for the device; it
    # goes with ``labels``. None = scores are computed everywhere.
    label_positions: Tensor | None = None
    # () float32, labels of the average batch of this optimizer step; None = the step has no other batch than this one
    labels_per_batch: Tensor | None = None
    # Batches of an optimizer step over those of this one, which an epoch's end cuts short: what its loss is to be
    # multiplied by, because the trainer divides by the former
    step_scale: float = 1.0
    # Made beforehand (`mgie prepare cache`), in the number type of the part that made them, unscaled.
    source_latents: Tensor | None = None  # (B, C, h, w), the mode
    target_mean: Tensor | None = None  # (B, C, h, w)
    target_std: Tensor | None = None  # (B, C, h, w)
    vision_states: Tensor | None = None  # (B, N, E), what the projector takes

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.sample_ids)

    def to(self, device: torch.device | str) -> Self:
        """The same batch with its tensors on ``device``."""
        return _moved(self, device)


@dataclass(slots=True)
class EditDraws:
    """All randomness of a training step; handing it in makes the step a pure function."""

    noise: Tensor  # (B, C, h, w) float32, standard normal
    latent_noise: Tensor  # (B, C, h, w) float32, standard normal: samples the target's latents
    timesteps: Tensor  # (B,) int64 in [0, T)
    condition_dropout: Tensor  # (B,) float32 uniform in [0, 1)

    def to(self, device: torch.device | str) -> Self:
        """The same draws on ``device``."""
        return _moved(self, device)


@dataclass(slots=True)
class Condition:
    """What a guide tells the UNet."""

    text: Tensor  # (B, Q, D) cross-attention sequence of the instruction
    null: Tensor  # (1, Q, D) the empty condition
    expressive_instructions: list[str]  # what the guide understood; the raw words where it writes none


@dataclass(slots=True)
class GuideLosses:
    """What a guide gives in a training step."""

    text: Tensor  # (B, Q, D)
    null: Tensor  # (1, Q, D)
    loss_lm: Tensor | None  # scalar, nats per labelled token; None for guides that write nothing
    loss_align: Tensor | None = None  # scalar, mean square; None without an alignment target


@dataclass(slots=True)
class EditLosses:
    """Losses of one step; scalars, with graph."""

    loss: Tensor  # the weighted sum that is minimised
    loss_edit: Tensor  # diffusion loss
    loss_lm: Tensor | None = None  # instruction loss
    loss_align: Tensor | None = None  # alignment of the edit head's output with a fixed text code


def _moved(record: _Record, device: torch.device | str) -> _Record:
    """A record with its tensors on a device; to a GPU they go from pinned memory, else the host would wait for each."""
    values = {entry.name: getattr(record, entry.name) for entry in fields(cast("Any", record))}
    tensors = {name: value for name, value in values.items() if hasattr(value, "pin_memory")}
    if str(device).startswith("cuda"):
        tensors = {name: value if value.is_cuda else value.pin_memory() for name, value in tensors.items()}
    moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
    return cast("_Record", replace(cast("Any", record), **moved))
