"""CLIP's text encoder as it lies in a diffusers pipeline folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mgie_lit.checkpoints.diffusion_source import part_folder
from mgie_lit.checkpoints.json_files import CONFIG_FILE, read_json
from mgie_lit.checkpoints.mismatch import Fit, check_fit
from mgie_lit.checkpoints.names.clip_text import CLIP_TEXT
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import CLIPTextModel

TEXT_ENCODER_FOLDERS = ("text_encoder",)


def load_text_encoder(text_encoder: CLIPTextModel, source: str | Path) -> None:
    """Fill a text encoder from a pipeline folder (SD-1.5, InstructPix2Pix) or from its own folder.

    Args:
        text_encoder: Changed in place; nothing is changed where this raises.
        source: Where the weights are.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit; the message lists all that do not.
    """
    folder = part_folder(Path(source), TEXT_ENCODER_FOLDERS)
    tensors = CLIP_TEXT.rename(open_weights(folder))
    state = {name: value for name, value in text_encoder.state_dict().items() if CLIP_TEXT.to_ours(name) is not None}
    expected = {name: tuple(value.shape) for name, value in state.items()}
    check_fit(source, [Fit("text_encoder", expected, tensors, CLIP_TEXT.from_ours)])
    with torch.no_grad():
        for name, lazy in tensors.items():
            state[name].copy_(lazy.load())


def open_text_encoder(source: str | Path) -> CLIPTextModel:
    """A text encoder of the size and with the weights that a pipeline folder has.

    Args:
        source: Pipeline folder, or the encoder's own.

    Returns:
        The encoder on the CPU, in train mode.

    Raises:
        CheckpointError: It is not CLIP's, or its weights are missing, damaged, or do not fit.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    file = part_folder(Path(source), TEXT_ENCODER_FOLDERS) / CONFIG_FILE
    content = read_json(file)
    if content.get("model_type") != "clip_text_model":
        raise CheckpointError(f"{file}: expected model_type clip_text_model, got {content.get('model_type')!r}")
    text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(content))
    load_text_encoder(text_encoder, source)
    return text_encoder
