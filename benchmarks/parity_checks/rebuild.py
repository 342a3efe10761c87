"""The reference's model out of a manifest: our config with its sizes, our editor with its weights."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mgie_lit.checkpoints.names.reference import name_of_reference, reference_name
from mgie_lit.config.compose import compose_config
from mgie_lit.editor import Editor
from parity_checks.bundle import STORED_WEIGHTS, TRAIN_MANIFEST, TRAINER_RUN, Bundle, BundleError
from parity_checks.rows import Table

if TYPE_CHECKING:
    from parity_checks.model import Rebuilt

WEIGHTS = "weights"
_Value = TypeVar("_Value")
_NOTE = "note"  # a remark between the arguments of a manifest
_LAYER = re.compile(r"edit_head\.mapper\.(encoder|decoder)\.layers\.(\d+)\.")


def make_config(bundle: Bundle, *overrides: str) -> DictConfig:
    """Our ``preset=released`` at the bundle's sizes.

    Args:
        bundle: With its training manifest and tokenizer.
        *overrides: Further ones, as on the command line.

    Returns:
        The config of a training of it; the vision tower computes in float32, as in the recording.
    """
    steps = _if_whole(lambda: bundle.json(TRAINER_RUN)).get("steps") or [None]
    return compose_config(
        "train",
        [
            "preset=released",
            "size=llava_7b",
            "sampler=ddim",
            "faults.half_vision_tower=false",
            "size.start.mllm=null",
            "size.start.diffusion=null",
            _override("size.tokenizer.source", str(bundle.folder)),
            "effective_batch_size=null",
            f"data.batch_size={max(1, len(bundle.texts))}",
            "trainer.max_epochs=null",
            f"trainer.max_steps={len(steps)}",
            *size_overrides(bundle.train),
            *_resolution(_if_whole(lambda: bundle.inputs)),
            *overrides,
        ],
    )


def size_overrides(manifest: Mapping[str, Any]) -> list[str]:
    """Sizes of all parts as overrides of ``size=llava_7b``.

    Args:
        manifest: The training manifest, with ``config`` and ``weights``; what its ``model_args`` do not say (older ones
            have none) is as in the released code.

    Returns:
        One override for each value.

    Raises:
        BundleError: The manifest lacks sizes, or asks for what MGIE does not have.
    """
    arguments = manifest.get("model_args") or {}
    try:
        config, weights = manifest["config"], manifest["weights"]
        side, clip = config["clip"]["image_size"], dict(arguments.get("clip", {}))
        vision_layer, drops_class = clip.pop("select_layer", None), clip.pop("drop_cls", True)
        head, vocab_size = _edit_head(weights), weights["model.embed_tokens.weight"]["shape"][0]
        parts: dict[str, dict[str, Any]] = {
            "size.mllm.language": config["llm"] | {"vocab_size": vocab_size} | arguments.get("llama", {}),
            "size.mllm.vision": config["clip"] | clip,
            "size.edit_head": head,
            "size.unet": {"cross_attention_dim": head["output_dim"]} | arguments.get("unet", {}) | _unet(config),
            "size.autoencoder": _autoencoder_types(len(config["vae"]))
            | arguments.get("vae", {})
            | _autoencoder(config),
            "sampler.scheduler": dict(arguments.get("train_scheduler", {})),
            "size.image_processor": {
                "size": {"shortest_edge": side},
                "crop_size": {"height": side, "width": side},
            },
        }
    except (KeyError, TypeError) as error:
        raise BundleError(f"train_manifest.json: expected sizes of all parts, {error} is missing") from error
    if not drops_class:
        raise BundleError("train_manifest.json: expected model_args.clip.drop_cls true, as in LLaVA, got false")
    values = {f"{part}.{key}": value for part, entries in parts.items() for key, value in entries.items()}
    if vision_layer is not None:
        values["size.mllm.vision_layer"] = vision_layer
    return [_override(path, value) for path, value in values.items() if not path.endswith(f".{_NOTE}")]


def _if_whole(read: Callable[[], dict[str, _Value]]) -> dict[str, _Value]:
    """Content of a file that the model can do without; the checks that need a damaged one fail there."""
    try:
        return read()
    except BundleError:
        return {}


def make_weights(bundle: Bundle, table: Table) -> dict[str, Tensor]:
    """Every tensor of the model, drawn from its name.

    Args:
        bundle: With its training manifest.
        table: Gets a row on the hashes and one on the stored weights.

    Returns:
        By the names of the reference's state dict.

    Raises:
        BundleError: The manifest does not say how to draw them.
    """
    entries = bundle.train["weights"]
    try:
        seed, rules = bundle.train["seed"], {name: entry["rule"] for name, entry in entries.items()}
        weights = {
            name: normal(name, entries[name]["shape"], seed=seed, std=std, mean=mean)
            for name, (mean, std) in rules.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"train_manifest.json: expected seed, and shape and rule of each weight: {error}") from error
    wrong = [name for name, tensor in weights.items() if not _hash_agrees(tensor, entries[name])]
    hashed = sum("sha256" in entry for entry in entries.values())
    if hashed:
        table.none_of(WEIGHTS, "hashes of the drawn tensors", wrong, note=f"{hashed} tensors")
    else:
        table.absent(WEIGHTS, "hashes of the drawn tensors", "the manifest holds none")
    with table.guard(WEIGHTS, "stored weights are the drawn ones"):
        _compare_stored(bundle.tensors(STORED_WEIGHTS), weights, table)
    return weights


def check_trainable(rebuilt: Rebuilt, table: Table) -> None:
    """Which parameters train."""
    entries = rebuilt.bundle.train["weights"]
    if not all("trainable" in entry for entry in entries.values()):
        table.absent(WEIGHTS, "which train", f"not in {TRAIN_MANIFEST}")
        return
    ours = sorted(map(reference_name, rebuilt.module.trainable_names))
    theirs = sorted(name for name, entry in entries.items() if entry["trainable"])
    table.exact(WEIGHTS, "which train", ours, theirs, note=f"{len(theirs)} tensors")


def load_weights(editor: Editor, weights: Mapping[str, Tensor]) -> None:
    """Put tensors under the reference's names into our editor, all of them.

    Args:
        editor: Changed in place.
        weights: By the names of the reference's state dict.

    Raises:
        BundleError: Names or shapes do not fit.
    """
    try:
        ours = {name_of_reference(name): tensor for name, tensor in weights.items()}
        editor.load_state_dict(ours, strict=True)
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"train_manifest.json: weights do not fit the model that its sizes give: {error}") from error


def normal(name: str, shape: Sequence[int], *, seed: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
    """A tensor that needs no storage: normal numbers of numpy's legacy generator, seeded by the tensor's name."""
    generator = np.random.RandomState((zlib.crc32(name.encode()) ^ seed) & 0xFFFFFFFF)
    values = generator.standard_normal(int(np.prod(shape, dtype=np.int64))) * std + mean
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _resolution(inputs: Mapping[str, Tensor]) -> list[str]:
    """Side of the training images, where they are recorded."""
    recorded = inputs.get("p2p_inp_u8")
    return [] if recorded is None else [f"size.resolution={recorded.shape[-1]}"]


def _hash_agrees(tensor: Tensor, entry: Mapping[str, Any]) -> bool:
    recorded = entry.get("sha256")
    return recorded is None or hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == recorded


def _compare_stored(stored: Mapping[str, Tensor], weights: Mapping[str, Tensor], table: Table) -> None:
    check = "stored weights are the drawn ones"
    if not stored:
        table.absent(WEIGHTS, check, f"no {STORED_WEIGHTS}")
        return
    other = [name for name, tensor in stored.items() if name not in weights or not torch.equal(tensor, weights[name])]
    table.none_of(WEIGHTS, check, other, note=f"{len(stored)} tensors")


def _edit_head(weights: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of the edit head from the shapes of its weights; its heads are not among them."""

    def shape(name: str) -> list[int]:
        return list(weights[f"edit_head.{name}"]["shape"])

    layers: dict[str, set[str]] = {"encoder": set(), "decoder": set()}
    for match in filter(None, map(_LAYER.match, weights)):
        layers[match[1]].add(match[2])
    hidden_dim, input_dim = shape("llm2hid.weight")
    return {
        "input_dim": input_dim,
        "hidden_dim": hidden_dim,
        "output_dim": shape("hid2feat.weight")[0],
        "num_queries": shape("query")[1],
        "num_encoder_layers": len(layers["encoder"]),
        "num_decoder_layers": len(layers["decoder"]),
        "feedforward_dim": shape("mapper.encoder.layers.0.linear1.weight")[0],
    }


def _unet(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "block_out_channels": config["unet"],
        "down_block_types": config["unet_down"],
        "up_block_types": config["unet_up"],
        "layers_per_block": config["layers"],
    }


def _autoencoder(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "block_out_channels": config["vae"],
        "norm_num_groups": config["vae_groups"],
        "layers_per_block": config["layers"],
    }


def _autoencoder_types(num_blocks: int) -> dict[str, list[str]]:
    types = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
    return {key: [block] * num_blocks for key, block in types.items()}


def _override(path: str, value: object) -> str:
    return f"++{path}={_hydra(value)}"


def _hydra(value: object) -> str:
    """A value in Hydra's grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_hydra, value)) + "]"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return repr(value)
