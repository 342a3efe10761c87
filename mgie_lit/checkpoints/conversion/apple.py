"""Apple's two files on a LLaVA folder and a diffusers pipeline folder -> a whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.checkpoints.apple_source import edit_head_config, open_apple
from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.data_sets import known_data_sets
from mgie_lit.checkpoints.cards.files import write_card
from mgie_lit.checkpoints.cards.origins import Origin, apple_origin, origins_of
from mgie_lit.checkpoints.cards.results import Results, other_weights
from mgie_lit.checkpoints.conversion.mllm import (
    TOKENIZER,
    image_patch_id,
    mllm_part,
    open_tokenizer,
)
from mgie_lit.checkpoints.destination import new_folder
from mgie_lit.checkpoints.diffusion_source import (
    AUTOENCODER_FOLDERS,
    CONV_IN,
    SCHEDULER_FILE,
    SCHEDULER_FOLDER,
    UNET_FOLDERS,
    open_autoencoder,
    part_config,
    scheduler_config,
)
from mgie_lit.checkpoints.integrity import folder_digest
from mgie_lit.checkpoints.json_files import CONFIG_FILE, read_json, write_json
from mgie_lit.checkpoints.lazy import LazyTensors, OpenFiles
from mgie_lit.checkpoints.mllm_source import EMBEDDINGS, LM_HEAD, MLLMSource, open_mllm
from mgie_lit.checkpoints.names.apple import APPLE_MLLM, MLLM_FILE
from mgie_lit.checkpoints.parts import Part, check_parts, write_image_processor
from mgie_lit.checkpoints.untrusted import PIPELINE
from mgie_lit.checkpoints.writing import OnBytes
from mgie_lit.errors import CheckpointError
from mgie_lit.faults import RELEASED
from mgie_lit.models.autoencoder import PatchAutoencoder
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.vocabulary import NUM_VISUAL_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


PROMPT: dict[str, Any] = {  # what the weights were trained on: conf/size/llava_7b.yaml, held equal by a test
    "system": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions."
    ),
    "query": "what will this image be like if '{instruction}'",
    "max_length": 512,
    "image_first": False,
    "num_visual_tokens": NUM_VISUAL_TOKENS,
}
SAMPLING: dict[str, Any] = {  # what the weights were demonstrated with: ml-mgie's demo and diffusers' defaults
    "resolution": 256,
    "transfer": "resize",
    "source_scale": 1.0,
    "num_inference_steps": 100,
    "guidance_scale": 7.5,
    "image_guidance_scale": 1.5,
    "max_new_tokens": 96,
    "no_repeat_ngram": 3,
}
_MLLM, _HEAD, _UNET = "guide.mllm.", "guide.edit_head.", "unet."
_WORDS = (_MLLM + EMBEDDINGS, _MLLM + LM_HEAD)


def convert_apple(
    source: Path,
    dest: Path,
    *,
    llava: Path,
    diffusion: Path,
    vision: Path | None = None,
    metrics: Path | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """Write the published MGIE as an export folder that ``MGIEPipeline.from_pretrained`` opens.

    It behaves as the released demo: ``faults`` are those of the released code, which the weights were trained with.

    Args:
        source: Folder with ``mllm.pt`` and ``unet.pt``; number types are kept.
        dest: New folder.
        llava: LLaVA-7B-v1 folder: everything of the MLLM but the words; tokenizer.
        diffusion: Pipeline folder (InstructPix2Pix, SD-1.5): autoencoder, scheduler, and the UNet's config.
        vision: CLIP folder of the tower; None = inside the LLaVA folder, else what its config names.
        metrics: Directory of an evaluation of this export, made before, whose numbers go into the card.
        on_bytes: Told of progress.

    Raises:
        CheckpointError: Something is missing, damaged, or does not fit; one message lists all tensors that do not. Or
            the evaluation measured other weights.
    """
    results = None if metrics is None else Results.read(metrics)
    files = OpenFiles()
    apple = open_apple(source, files)
    mllm = open_mllm(llava, vision=vision, files=files)
    if not mllm.has_vision:
        raise CheckpointError(f"{llava}: expected a LLaVA folder, got a language model without projector and tower")
    tokenizer = open_tokenizer(llava)
    parts = [
        _mllm_part(mllm, apple, tokenizer),
        _edit_head_part(apple),
        _unet_part(apple, diffusion),
        autoencoder_part(diffusion, files),
    ]
    others = {name: lazy for name, lazy in apple.items() if not name.startswith((*_WORDS, _HEAD, _UNET))}
    check_parts(f"{source} on {llava} and {diffusion}", parts, others)
    scheduler = scheduler_config(diffusion)
    vision_config = parts[0].config["vision"]
    with new_folder(dest) as folder:
        for part in parts:
            part.write(folder, on_bytes)
        write_json(folder / SCHEDULER_FOLDER / SCHEDULER_FILE, scheduler)
        tokenizer.save_pretrained(folder / TOKENIZER)
        write_image_processor(folder, vision_config["image_size"])
        index = _model_index(parts, scheduler["_class_name"], type(tokenizer).__name__, vision_config)
        write_json(folder / "model_index.json", index)
        if results is not None and results.source.get("sha256") != folder_digest(folder):
            raise other_weights(results, metrics, dest)
        card = Card(dest.name, _origins(llava, diffusion, vision), results=() if results is None else (results,))
        write_card(folder, replace(card, data=tuple(known_data_sets("ipr2pr", "magicbrush"))).text())


def _origins(llava: Path, diffusion: Path, vision: Path | None) -> tuple[Origin, ...]:
    tower = [] if vision is None else origins_of(vision, "vision tower")
    return (apple_origin(), *origins_of(llava, "mllm"), *tower, *origins_of(diffusion, "autoencoder, scheduler"))


def autoencoder_part(diffusion: Path, files: OpenFiles) -> Part:
    """The autoencoder of a pipeline folder.

    Args:
        diffusion: Pipeline folder.
        files: Keeps its files open while they are used.

    Returns:
        The part, under today's names.
    """
    config = part_config(diffusion, AUTOENCODER_FOLDERS)
    class_name = config.pop("_class_name", "AutoencoderKL")
    return Part("autoencoder", class_name, config, open_autoencoder(diffusion, files))


def _mllm_part(mllm: MLLMSource, apple: LazyTensors, tokenizer: PreTrainedTokenizerBase) -> Part:
    """LLaVA with Apple's words, which come last, so that their file is opened once."""
    words = {name.removeprefix(_MLLM): apple[name] for name in _WORDS if name in apple}
    rest = {name: lazy for name, lazy in mllm.tensors.items() if name not in (EMBEDDINGS, LM_HEAD)}
    config = mllm.config()
    if EMBEDDINGS in words and words[EMBEDDINGS].shape:
        num_rows = words[EMBEDDINGS].shape[0]
        if len(tokenizer) > num_rows:
            raise CheckpointError(
                f"{mllm.folder}: expected a tokenizer of at most {num_rows} tokens with image and visual tokens, as "
                f"{MLLM_FILE} has rows, got {len(tokenizer)}; MGIE was trained on LLaVA-7B-v1 and its tokenizer"
            )
        config["language"] = {**config["language"], "vocab_size": num_rows}
    part = mllm_part(mllm, {**rest, **words}, config, image_patch_id(tokenizer))
    return replace(part, spell=lambda name: APPLE_MLLM.from_ours(_MLLM + name) if name in words else mllm.spell(name))


def _edit_head_part(apple: LazyTensors) -> Part:
    head = {name.removeprefix(_HEAD): lazy for name, lazy in apple.items() if name.startswith(_HEAD)}
    config = edit_head_config(head, apple.get(_MLLM + EMBEDDINGS))
    return Part("edit_head", "EditHead", config, head, lambda name: APPLE_MLLM.from_ours(_HEAD + name))


def _unet_part(apple: LazyTensors, diffusion: Path) -> Part:
    """Apple's UNet in the shape of the pipeline's, with the input channels that its file has."""
    unet = {name.removeprefix(_UNET): lazy for name, lazy in apple.items() if name.startswith(_UNET)}
    config = _unet_config(diffusion)
    class_name = config.pop("_class_name", "UNet2DConditionModel")
    if CONV_IN in unet and len(unet[CONV_IN].shape) == 4:
        config["in_channels"] = unet[CONV_IN].shape[1]
    return Part("unet", class_name, config, unet)


def _unet_config(diffusion: Path) -> dict[str, Any]:
    """The UNet's config, with ``_class_name``; weights need not be beside it, for these are Apple's."""
    folders = [*(diffusion / name for name in UNET_FOLDERS), diffusion]
    folder = next((folder for folder in folders if (folder / CONFIG_FILE).is_file()), None)
    if folder is None:
        places = " and no ".join(str(folder / CONFIG_FILE) for folder in folders)
        raise CheckpointError(
            f"{diffusion}: expected the UNet's config, found no {places}; "
            "name the pipeline folder of InstructPix2Pix or Stable Diffusion 1.5"
        )
    config = read_json(folder / CONFIG_FILE)
    return {key: value for key, value in config.items() if key == "_class_name" or not key.startswith("_")}


def _model_index(parts: list[Part], scheduler: str, tokenizer: str, vision: Mapping[str, Any]) -> dict[str, Any]:
    modules = {own.__name__: own.__module__ for own in (MLLM, EditHead, PatchAutoencoder)}
    classes = {part.folder: [modules.get(part.class_name, "diffusers"), part.class_name] for part in parts}
    return {
        "_class_name": PIPELINE,
        "_diffusers_version": version("diffusers"),
        **classes,
        "scheduler": ["diffusers", scheduler],
        "tokenizer": ["transformers", tokenizer],
        "image_processor": ["transformers", "CLIPImageProcessorPil"],
        "prompt": {**PROMPT, "num_image_patches": (vision["image_size"] // vision["patch_size"]) ** 2},
        "faults": asdict(RELEASED),
        **SAMPLING,
    }
