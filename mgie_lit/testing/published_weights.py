"""Folders of weights as others publish them, made of our own modules, so that reading them can be tested exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mgie_lit.checkpoints.mllm_source import EMBEDDINGS, LM_HEAD
from mgie_lit.checkpoints.names import apple, clip, llava
from mgie_lit.editor import Editor
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.mllm import MLLM
from mgie_lit.prompts import SMALL_TOKENIZER_DIR


def write_shards(
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    stem: str = "pytorch_model",
    suffix: str = ".bin",
    num_shards: int = 1,
    has_index: bool = True,
) -> list[Path]:
    """Write weights whole or in shards.

    Args:
        folder: Made if it is missing.
        tensors: By name.
        stem: Of the files' names.
        suffix: ``.safetensors``, or one of PyTorch's.
        num_shards: Files; the tensors are dealt out in order.
        has_index: Whether several files come with an index.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    edges = [len(names) * number // num_shards for number in range(num_shards + 1)]
    weight_map: dict[str, str] = {}
    for number in range(num_shards):
        part = "" if num_shards == 1 else f"-{number + 1:05d}-of-{num_shards:05d}"
        file = folder / f"{stem}{part}{suffix}"
        shard = {name: tensors[name].detach().clone() for name in names[edges[number] : edges[number + 1]]}
        if suffix == ".safetensors":
            save_file(shard, file, metadata={"format": "pt"})
        else:
            torch.save(shard, file)
        weight_map |= dict.fromkeys(shard, file.name)
    if num_shards > 1 and has_index:
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return [folder / name for name in dict.fromkeys(weight_map.values())]


def legacy_llava_tensors(mllm: MLLM, *, num_rows: int | None = None, has_tower: bool = True) -> dict[str, Tensor]:
    """An MLLM's weights under the names of legacy LLaVA.

    Args:
        mllm: The weights.
        num_rows: Size of the vocabulary; None = all rows.
        has_tower: Whether the vision tower is among them.

    Returns:
        Name -> tensor.
    """
    named = {}
    for name, value in mllm.state_dict().items():
        if name.startswith("vision_tower.") and not has_tower:
            continue
        named[llava.from_ours(name)] = value[:num_rows] if name in (EMBEDDINGS, LM_HEAD) else value
    return named


def legacy_llava_config(mllm: MLLM, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """The ``config.json`` of legacy LLaVA for an MLLM, without its vision tower's sizes.

    Args:
        mllm: Its language model counts.
        **changes: Keys that are added or replaced.

    Returns:
        Plain containers.
    """
    projector = {1: "linear", 2: "mlp2x_gelu"}[mllm.config["projector_layers"]]
    return {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "mm_projector_type": projector,
        "mm_vision_select_layer": mllm.vision_layer,
        **mllm.config["language"],
        **changes,
    }


def write_llava(
    folder: Path,
    mllm: MLLM,
    *,
    tower: Path | None = None,
    num_rows: int | None = None,
    **shards: Any,  # noqa: ANN401
) -> Path:
    """A legacy LLaVA folder with the package's small tokenizer.

    Args:
        folder: Made.
        mllm: The weights.
        tower: Where its config says that the vision tower is; None = among the weights, with a ``vision_config``.
        num_rows: Size of the vocabulary; None = all rows.
        **shards: As for `write_shards`.

    Returns:
        The folder.
    """
    tensors = legacy_llava_tensors(mllm, num_rows=num_rows, has_tower=tower is None)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.arange(3.0)  # old checkpoints hold it
    write_shards(folder, tensors, **shards)
    changes = {"vocab_size": len(tensors["lm_head.weight"])}
    where = {"vision_config": mllm.config["vision"]} if tower is None else {"mm_vision_tower": str(tower)}
    (folder / "config.json").write_text(json.dumps(legacy_llava_config(mllm, **changes, **where)))
    for file in SMALL_TOKENIZER_DIR.iterdir():
        shutil.copyfile(file, folder / file.name)
    return folder


def write_clip(folder: Path, mllm: MLLM, **shards: Any) -> Path:  # noqa: ANN401
    """A CLIP folder with an MLLM's tower, text side and projections stubs.

    Args:
        folder: Made.
        mllm: With a vision tower.
        **shards: As for `write_shards`.

    Returns:
        The folder.
    """
    tower = {name: value for name, value in mllm.state_dict().items() if name.startswith("vision_tower.")}
    tensors = {clip.from_ours(name): value for name, value in tower.items()}
    tensors |= {
        "vision_model.embeddings.position_ids": torch.arange(3),
        "text_model.final_layer_norm.bias": torch.zeros(2),
        "visual_projection.weight": torch.zeros(2, 2),
        "logit_scale": torch.tensor(1.0),
    }
    write_shards(folder, tensors, **shards)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": mllm.config["vision"]}))
    return folder


def write_pipeline(folder: Path, editor: Editor, *, in_channels: int | None = None, suffix: str = ".bin") -> Path:
    """A diffusers pipeline folder with an editor's UNet, autoencoder and scheduler.

    Args:
        folder: Made.
        editor: With an ``AutoencoderKL``.
        in_channels: Of the UNet; fewer than the editor's make a text-to-image pipeline. None = the editor's.
        suffix: Of the weight files.

    Returns:
        The folder.
    """
    editor.unet.save_config(folder / "unet")
    editor.autoencoder.save_config(folder / "vae")
    editor.scheduler.save_pretrained(folder / "scheduler")  # type: ignore[attr-defined]
    unet = editor.unet.state_dict()
    if in_channels is not None:
        unet["conv_in.weight"] = unet["conv_in.weight"][:, :in_channels]
        path = folder / "unet" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": in_channels}))
    stem = "diffusion_pytorch_model"
    write_shards(folder / "unet", unet, stem=stem, suffix=suffix)
    write_shards(folder / "vae", editor.autoencoder.state_dict(), stem=stem, suffix=suffix)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", type(editor.scheduler).__name__],
        "safety_checker": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def apple_tensors(editor: Editor, *, stored: Tensor | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What ``mllm.pt`` and ``unet.pt`` hold for an editor.

    Args:
        editor: With an ``MLLMGuide``.
        stored: ``(1, V, D)``, put under ``emb``; None = a file without.

    Returns:
        Both files' content.
    """
    assert isinstance(editor.guide, MLLMGuide)
    kept = ("guide.edit_head.", f"guide.mllm.{EMBEDDINGS}", f"guide.mllm.{LM_HEAD}")
    mllm = {apple.mllm_from_ours(name): value for name, value in editor.state_dict().items() if name.startswith(kept)}
    if stored is not None:
        mllm["emb"] = stored
    return mllm, dict(editor.unet.state_dict())


def write_apple(
    folder: Path, editor: Editor, *, stored: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Path:
    """A folder with Apple's two files.

    Args:
        folder: Made.
        editor: With an ``MLLMGuide``.
        stored: As for `apple_tensors`.
        dtype: Of the files.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    for name, tensors in zip(("mllm.pt", "unet.pt"), apple_tensors(editor, stored=stored), strict=True):
        torch.save({key: value.to(dtype, copy=True) for key, value in tensors.items()}, folder / name)
    return folder
