"""InstructPix2Pix as it was published: a diffusers pipeline folder as a whole system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import diffusers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from mgie_lit.checkpoints.diffusion_source import AUTOENCODER_FOLDERS, UNET_FOLDERS, part_config, scheduler_config
from mgie_lit.checkpoints.exports import INDEX_FILE
from mgie_lit.checkpoints.json_files import read_json
from mgie_lit.checkpoints.loading import load_autoencoder, load_unet
from mgie_lit.checkpoints.text_encoder import open_text_encoder
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError
from mgie_lit.guides.text import TextGuide
from mgie_lit.models.autoencoder import downscale_factor
from mgie_lit.prompts import load_text_tokenizer
from mgie_lit.sampling.edit import SamplingOptions

if TYPE_CHECKING:
    from mgie_lit.models.scheduler import Scheduler

PIPELINE_CLASS = "StableDiffusionInstructPix2PixPipeline"
# Defaults of a call of the published pipeline
NUM_INFERENCE_STEPS, GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE = 100, 7.5, 1.5


def is_instruct_pix2pix(folder: Path) -> bool:
    """Whether a folder is a diffusers pipeline of InstructPix2Pix's class."""
    file = folder / INDEX_FILE
    return file.is_file() and read_json(file).get("_class_name") == PIPELINE_CLASS


def open_instruct_pix2pix(folder: Path) -> tuple[Editor, SamplingOptions]:
    """The whole published system, without its safety checker.

    Args:
        folder: With ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` and ``scheduler``.

    Returns:
        The editor in eval mode on the CPU, with the folder's own scheduler, and the published pipeline's defaults; the
        working resolution is that of the UNet's config.

    Raises:
        CheckpointError: A part is missing, damaged, or does not fit.
    """
    guide = TextGuide(open_text_encoder(folder), load_text_tokenizer(str(folder)), reads="instruction")
    try:
        unet = UNet2DConditionModel.from_config(part_config(folder, UNET_FOLDERS))
        autoencoder = AutoencoderKL.from_config(part_config(folder, AUTOENCODER_FOLDERS))
        editor = Editor(guide, autoencoder, unet, _scheduler(folder))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: expected the parts of an InstructPix2Pix pipeline: {error}") from error
    load_unet(unet, folder)
    load_autoencoder(autoencoder, folder)
    options = SamplingOptions(
        resolution=int(unet.config["sample_size"]) * downscale_factor(autoencoder),
        num_inference_steps=NUM_INFERENCE_STEPS,
        guidance_scale=GUIDANCE_SCALE,
        image_guidance_scale=IMAGE_GUIDANCE_SCALE,
    )
    return editor.eval(), options


def _scheduler(folder: Path) -> Scheduler:
    config = scheduler_config(folder)
    kind: Any = getattr(diffusers, config["_class_name"], None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise ValueError(f"scheduler: {config['_class_name']!r} is no scheduler of diffusers")
    return cast("Scheduler", kind.from_config(config))  # type: ignore[no-untyped-call]
