"""Names of diffusers' ``UNet2DConditionModel``, which are ours, too."""

from __future__ import annotations

from mgie_lit.checkpoints.names.rules import Format

UNET = Format("diffusers' UNet2DConditionModel", str, str)
