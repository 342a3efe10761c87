"""Trained editors, in memory or in an export folder -> Apple's two files, or the UNet for diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mgie_lit.checkpoints.conversion.mllm import open_tokenizer
from mgie_lit.checkpoints.destination import new_folder
from mgie_lit.checkpoints.diffusion_source import UNET_FOLDERS, open_unet, part_config
from mgie_lit.checkpoints.json_files import read_json
from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors, OpenFiles
from mgie_lit.checkpoints.mllm_source import EMBEDDINGS, LM_HEAD, open_mllm
from mgie_lit.checkpoints.names.apple import (
    APPLE_MLLM,
    APPLE_UNET,
    MLLM_FILE,
    OUR_STORED_EMBEDDINGS,
    STORED_EMBEDDINGS,
    UNET_FILE,
)
from mgie_lit.checkpoints.parts import Part, check_parts
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.checkpoints.writing import OnBytes, lazy_of
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.vocabulary import NUM_VISUAL_TOKENS, VISUAL_TOKENS

INDEX = "model_index.json"
StoredDtype = Literal["half", "float"]
_DTYPES = {"half": torch.float16, "float": torch.float32}
_MLLM, _HEAD, _UNET = "guide.mllm.", "guide.edit_head.", "unet."
_NOTE = """\
Weights of an MGIE in the two files of ml-mgie: {mllm} (word embeddings, LM head, edit head, `emb` = the word embeddings
of [IMG0..7] at inference) and {unet}. An edit needs besides: the LLaVA folder and the vision tower that the training
started from (everything of the MLLM that is not in {mllm}), and a diffusers pipeline folder with the autoencoder and
the noise scheduler. Back to a whole: mgie convert THIS DEST --from apple --to export --llava DIR --diffusion DIR
"""


def trained_tensors(editor: Editor, origin: Path) -> tuple[dict[str, LazyTensor], int]:
    """What Apple's files hold, of an editor in memory.

    Args:
        editor: With an ``MLLMGuide``.
        origin: Where it comes from, for messages.

    Returns:
        Tensors by the editor's names, and the id of ``[IMG0]``.

    Raises:
        CheckpointError: The editor's guide is not an MLLM, or writes another number of visual tokens than ml-mgie.
    """
    guide = editor.guide
    if not isinstance(guide, MLLMGuide):
        raise CheckpointError(f"{origin}: expected a system with an MLLM (model=mgie), got a {type(guide).__name__}")
    _check_visual_tokens(origin, len(guide.prompt.visual_ids))
    return lazy_of(editor.state_dict(), origin), guide.prompt.visual_ids[0]


def exported_tensors(export: Path) -> tuple[dict[str, LazyTensor], int]:
    """What Apple's files hold, of an export folder; number types are kept.

    Args:
        export: Export folder with ``mllm``, ``edit_head``, ``unet`` and ``tokenizer``.

    Returns:
        Tensors by the editor's names, and the id of ``[IMG0]``.

    Raises:
        CheckpointError: A part is missing or damaged, or the model writes another number of visual tokens than ml-mgie.
    """
    prompt = read_json(export / INDEX).get("prompt") or {}
    _check_visual_tokens(export, prompt.get("num_visual_tokens", NUM_VISUAL_TOKENS))
    files = OpenFiles()
    tensors = {_MLLM + name: lazy for name, lazy in open_mllm(export, files=files).tensors.items()}
    tensors |= {_HEAD + name: lazy for name, lazy in open_weights(export / "edit_head", files).items()}
    tensors |= {_UNET + name: lazy for name, lazy in open_unet(export, files).items()}
    first = open_tokenizer(export).convert_tokens_to_ids(VISUAL_TOKENS[0])
    assert isinstance(first, int)
    return tensors, first


def write_apple(tensors: LazyTensors, first_visual_id: int, dest: Path, *, dtype: StoredDtype | None = None) -> None:
    """Write ``mllm.pt``, ``unet.pt`` and a note what else an edit needs.

    Args:
        tensors: By the names of an ``Editor``.
        first_visual_id: Of ``[IMG0]``: its row and the next ones are ``emb`` where the edit head stores none.
        dest: New folder.
        dtype: Number type of the files; None = as they are.
    """
    words = {name: tensors[name] for name in (_MLLM + EMBEDDINGS, _MLLM + LM_HEAD)}
    head = {name: lazy for name, lazy in tensors.items() if name.startswith(_HEAD)}
    visual = slice(first_visual_id, first_visual_id + NUM_VISUAL_TOKENS)
    table = words[_MLLM + EMBEDDINGS]
    head.setdefault(
        OUR_STORED_EMBEDDINGS, table.changed((NUM_VISUAL_TOKENS, table.shape[1]), lambda rows: rows[visual])
    )
    unet = {name: lazy for name, lazy in tensors.items() if name.startswith(_UNET)}
    with new_folder(dest) as folder:
        mllm_file = {APPLE_MLLM.from_ours(name): lazy for name, lazy in {**words, **head}.items()}
        torch.save(_loaded(mllm_file, dtype), folder / MLLM_FILE)
        torch.save(
            _loaded({APPLE_UNET.from_ours(name): lazy for name, lazy in unet.items()}, dtype), folder / UNET_FILE
        )
        (folder / "README.txt").write_text(_NOTE.format(mllm=MLLM_FILE, unet=UNET_FILE), encoding="utf-8")


def export_unet(export: Path, dest: Path, *, on_bytes: OnBytes | None = None) -> None:
    """Write the UNet of an export folder as a folder for ``UNet2DConditionModel.from_pretrained``.

    Args:
        export: Export folder.
        dest: New folder.
        on_bytes: Told of progress.

    Raises:
        CheckpointError: The export has no whole UNet.
    """
    config = part_config(export, UNET_FOLDERS)
    part = Part("unet", config.pop("_class_name", "UNet2DConditionModel"), config, open_unet(export))
    check_parts(export, [part])
    with new_folder(dest) as folder:
        part.write(folder, on_bytes)
        _lift(folder / part.folder, folder)


def write_unet(editor: Editor, dest: Path) -> None:
    """Write the UNet of an editor in memory as a folder for ``UNet2DConditionModel.from_pretrained``.

    Args:
        editor: Of any guide.
        dest: New folder.
    """
    with new_folder(dest) as folder:
        editor.unet.save_pretrained(folder)


def _check_visual_tokens(origin: Path, number: int) -> None:
    if number != NUM_VISUAL_TOKENS:
        raise CheckpointError(
            f"{origin}: expected a model with {NUM_VISUAL_TOKENS} visual tokens, which ml-mgie takes for granted, got "
            f"one with {number}; its own format is --to export"
        )


def _lift(inner: Path, outer: Path) -> None:
    for file in list(inner.iterdir()):
        file.rename(outer / file.name)
    inner.rmdir()


def _loaded(tensors: LazyTensors, dtype: StoredDtype | None) -> dict[str, Tensor]:
    """Tensors as Apple's files hold them: alone, contiguous, ``emb`` with a batch axis."""
    loaded = {}
    for name, lazy in tensors.items():
        tensor = lazy.load()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(_DTYPES[dtype])
        if name == STORED_EMBEDDINGS:
            tensor = tensor[None]
        is_view = tensor.untyped_storage().nbytes() != tensor.nbytes  # of a table that would be written with it
        loaded[name] = tensor.clone() if is_view else tensor
    return loaded
