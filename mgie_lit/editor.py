"""The editor: one guide in front of autoencoder, UNet and noise scheduler; training losses and one denoising step.

Every system of the paper has this shape; only the guide differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.functional.conditioning import condition_dropout_masks
from mgie_lit.functional.diffusion import PREDICTION_TYPES, add_noise, apply_affine_to_source, prediction_target
from mgie_lit.functional.losses import edit_loss
from mgie_lit.models.autoencoder import decode_latents, downscale_factor, encode_source, encode_target, latent_channels
from mgie_lit.models.gates import spare_gates
from mgie_lit.models.norms import fuse_norms
from mgie_lit.models.unet import denoise
from mgie_lit.types import EditBatch, EditDraws, EditLosses, GuideLosses

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from mgie_lit.models.autoencoder import PatchAutoencoder
    from mgie_lit.models.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Objective:
    """What a training minimises (arXiv:2309.17102, eq. 5, and InstructPix2Pix's condition dropout).

    Raises:
        ValueError: A weight is negative, or a probability is not one.
    """

    loss_edit_weight: float = 0.5  # arXiv:2309.17102, eq. 5
    loss_lm_weight: float = 1.0  # arXiv:2309.17102, eq. 5; 0 = the ablation without it, it is logged all the same
    loss_align_weight: float = 0.0  # 0 = no alignment; the paper's UNet comes with its text encoder's space
    dropout_text_prob: float = 0.05  # ml-mgie
    dropout_both_prob: float = 0.05
    dropout_image_prob: float = 0.05
    target_variance: float = 1.0  # of what the UNet predicts; 1 for noise
    last_timestep_prob: float = 0.0  # extra share of training at pure noise, where a few-step sampler starts

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("loss_edit_weight", "loss_lm_weight", "loss_align_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"objective.{name}: expected a number >= 0, got {getattr(self, name)}")
        if not 0 <= self.last_timestep_prob <= 1:
            raise ValueError(
                f"objective.last_timestep_prob: expected a number >= 0 and <= 1, got {self.last_timestep_prob}"
            )
        dropout = (self.dropout_text_prob, self.dropout_both_prob, self.dropout_image_prob)
        if not (min(dropout) >= 0 and sum(dropout) <= 1):
            raise ValueError(
                "objective.dropout_text_prob, dropout_both_prob, dropout_image_prob: expected numbers >= 0 with sum "
                f"<= 1, got {', '.join(map(str, dropout))}"
            )
        if not self.target_variance > 0:
            raise ValueError(f"objective.target_variance: expected a number > 0, got {self.target_variance}")


class Editor(nn.Module):
    """Guide + autoencoder + UNet + scheduler.

    A UNet with twice the latent channels at its output states the clean latents as an affine change of the source
    (``functional.diffusion.apply_affine_to_source``); any other states what the scheduler's prediction type says.

    Args:
        guide: Gives the condition (``mgie_lit.guides``).
        autoencoder: Frozen; ``AutoencoderKL`` or ``PatchAutoencoder``.
        unet: Takes twice the latent channels.
        scheduler: diffusers scheduler; its betas and prediction type hold for training and sampling.
        source_scale: Factor on the source's latents; 1.0 = unscaled mode, as InstructPix2Pix and ml-mgie.
        faults: Which faults of the released code are kept when editing.

    Raises:
        ValueError: Channels or prediction type do not fit together.
    """

    def __init__(
        self,
        guide: nn.Module,
        autoencoder: AutoencoderKL | PatchAutoencoder,
        unet: UNet2DConditionModel,
        scheduler: Scheduler,
        *,
        source_scale: float = 1.0,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__()
        self.guide = guide
        self.autoencoder = autoencoder.requires_grad_(False)
        self.unet = unet
        self.scheduler = scheduler
        self._alphas = (scheduler.alphas_cumprod, scheduler.alphas_cumprod)  # the scheduler's, and the device's
        self.source_scale = source_scale
        self.faults = faults
        self.latent_scale = float(autoencoder.config["scaling_factor"])
        self.latent_channels = latent_channels(autoencoder)
        self.prediction_type = scheduler.config["prediction_type"]
        self._check_channels()
        spare_gates(self)
        fuse_norms(self)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.device

    @property
    def size_multiple(self) -> int:
        """Image sides are multiples of this many pixels: the autoencoder's factor times the UNet's."""
        if self.faults.demo_images:  # the UNet pads odd latents by itself
            return downscale_factor(self.autoencoder)
        unet_factor: int = 2 ** (len(self.unet.config["block_out_channels"]) - 1)
        return downscale_factor(self.autoencoder) * unet_factor

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """``(C, h, w)`` of an image of ``height`` x ``width`` pixels."""
        factor = downscale_factor(self.autoencoder)
        return (self.latent_channels, height // factor, width // factor)

    def batch_latent_shape(self, batch: EditBatch) -> tuple[int, int, int]:
        """``(C, h, w)`` of the images of a batch, encoded before or not."""
        if batch.source_latents is not None:
            return (self.latent_channels, *batch.source_latents.shape[-2:])
        assert batch.source is not None
        return self.latent_shape(*batch.source.shape[-2:])

    def losses(self, batch: EditBatch, draws: EditDraws, objective: Objective) -> EditLosses:
        """All losses of one training step; a pure function of its arguments and the weights."""
        guide: GuideLosses = self.guide.losses(batch)  # type: ignore[operator]
        loss_edit = self._edit_loss(batch, draws, objective, guide.text, guide.null)
        loss = objective.loss_edit_weight * loss_edit
        if guide.loss_lm is not None:
            loss = loss + objective.loss_lm_weight * guide.loss_lm
        if guide.loss_align is not None:
            loss = loss + objective.loss_align_weight * guide.loss_align
        return EditLosses(loss=loss, loss_edit=loss_edit, loss_lm=guide.loss_lm, loss_align=guide.loss_align)

    def predict(self, noisy_latents: Tensor, source_latents: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """What the prediction type asks for (noise, velocity or clean latents), ``(B, C, h, w)`` float32."""
        output = denoise(self.unet, noisy_latents, source_latents, timesteps, condition)
        if not self.states_affine:
            return output
        return apply_affine_to_source(output, source_latents * (self.latent_scale / self.source_scale))

    @property
    def states_affine(self) -> bool:
        """Whether the UNet gives gain and bias on the source."""
        return bool(self.unet.config["out_channels"] == 2 * self.latent_channels)

    @torch.no_grad()
    def encode_source(self, images: Tensor) -> Tensor:
        """Latents of source images as the UNet sees them, ``(B, C, h, w)``; images in [-1, 1]."""
        return encode_source(self.autoencoder, images, scale=self.source_scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images of clean latents, ``(B, 3, H, W)`` in [-1, 1], not clipped."""
        return decode_latents(self.autoencoder, latents, scale=self.latent_scale)

    def _edit_loss(
        self, batch: EditBatch, draws: EditDraws, objective: Objective, text: Tensor, null: Tensor
    ) -> Tensor:
        source_latents, clean = self._latents(batch, draws)  # (B, C, h, w) each
        drop_text, drop_image = condition_dropout_masks(
            draws.condition_dropout,
            text_prob=objective.dropout_text_prob,
            both_prob=objective.dropout_both_prob,
            image_prob=objective.dropout_image_prob,
        )
        condition = torch.where(drop_text[:, None, None], null, text)  # (B, Q, D)
        source_latents = source_latents * ~drop_image[:, None, None, None]
        alphas_cumprod = self._alphas_cumprod(clean.device)
        noisy = add_noise(clean, draws.noise, draws.timesteps, alphas_cumprod)  # (B, C, h, w)
        preds = self.predict(noisy, source_latents, draws.timesteps, condition)
        target = prediction_target(clean, draws.noise, draws.timesteps, alphas_cumprod, self.prediction_type)
        return edit_loss(preds, target, target_variance=objective.target_variance)

    def _alphas_cumprod(self, device: torch.device) -> Tensor:
        """The scheduler's, ``(T,)``; copied to a device once, because the host waits for such a copy."""
        source, copy = self._alphas
        if source is not self.scheduler.alphas_cumprod or copy.device != device:
            source, copy = self.scheduler.alphas_cumprod, self.scheduler.alphas_cumprod.to(device)
            self._alphas = (source, copy)
        return copy

    @torch.no_grad()
    def _latents(self, batch: EditBatch, draws: EditDraws) -> tuple[Tensor, Tensor]:
        """The source's latents and a sample of the target's; encoded here unless the batch brings them."""
        if batch.source_latents is None:
            assert batch.source is not None
            assert batch.target is not None
            source_latents = self.encode_source(batch.source)
            clean = encode_target(self.autoencoder, batch.target, draws.latent_noise, scale=self.latent_scale)
            return source_latents, clean
        assert batch.target_mean is not None
        assert batch.target_std is not None
        sample = batch.target_mean.float() + batch.target_std.float() * draws.latent_noise
        return batch.source_latents.float() * self.source_scale, sample * self.latent_scale

    def _check_channels(self) -> None:
        in_channels, out_channels = self.unet.config["in_channels"], self.unet.config["out_channels"]
        if in_channels != 2 * self.latent_channels:
            raise ValueError(
                f"unet.in_channels: expected {2 * self.latent_channels} (noisy and source latents of "
                f"{self.latent_channels} channels), got {in_channels}"
            )
        if out_channels not in (self.latent_channels, 2 * self.latent_channels):
            raise ValueError(
                f"unet.out_channels: expected {self.latent_channels}, or {2 * self.latent_channels} for gain and bias "
                f"on the source, got {out_channels}"
            )
        if not self.source_scale > 0:
            raise ValueError(f"source_scale: expected a number > 0, got {self.source_scale}")
        if self.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"scheduler.prediction_type: expected one of {', '.join(PREDICTION_TYPES)}, got "
                f"{self.prediction_type!r}"
            )
        if self.states_affine and self.prediction_type != "sample":
            raise ValueError(
                "scheduler.prediction_type: expected 'sample' for a UNet that gives gain and bias on the source, got "
                f"{self.prediction_type!r}"
            )
