"""Apple's two files as they lie on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors, OpenFiles
from mgie_lit.checkpoints.names.apple import APPLE_MLLM, APPLE_UNET, MLLM_FILE, OUR_STORED_EMBEDDINGS, UNET_FILE
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.errors import CheckpointError

NUM_HEADS = 4  # of the edit head, ml-mgie; shapes do not tell
PUBLISHED_LAYERS = 4  # of encoder and decoder each, ml-mgie
PUBLISHED_SIZES = {  # of the edit head, ml-mgie; for a file that does not tell
    "input_dim": 4096,
    "hidden_dim": 512,
    "output_dim": 768,
    "num_queries": 77,
    "feedforward_dim": 2048,
}
_WORDS = "words"  # stands for the word embeddings, which are no tensor of the head
_WITNESSES = {  # argument -> names of tensors and their axis that has the size, best first
    "input_dim": ((r"llm2hid\.weight", 1), ("stored_embeddings", 1), (_WORDS, 1)),
    "hidden_dim": ((r"llm2hid\.weight", 0), (r"hid2feat\.weight", 1), ("query", 2)),
    "output_dim": ((r"hid2feat\.weight", 0), (r"hid2feat\.bias", 0)),
    "num_queries": (("query", 1),),
    "feedforward_dim": ((r".*\.linear1\.weight", 0), (r".*\.linear1\.bias", 0), (r".*\.linear2\.weight", 1)),
}


def open_apple(folder: Path, files: OpenFiles | None = None) -> dict[str, LazyTensor]:
    """Tensors of ``mllm.pt`` and ``unet.pt`` under the names of our ``Editor``.

    Args:
        folder: With both files.
        files: Keeps the files open while they are used; None = one at a time.

    Returns:
        Name -> tensor: ``guide.mllm.*``, ``guide.edit_head.*`` (with ``stored_embeddings`` if the file has ``emb``),
        ``unet.*``; names that the files should not hold come as they are.

    Raises:
        CheckpointError: A file is missing, damaged, or holds code.
    """
    missing = [name for name in (MLLM_FILE, UNET_FILE) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: expected Apple's {MLLM_FILE} and {UNET_FILE}, found no {' and no '.join(missing)}; name the "
            "folder that holds both"
        )
    files = files or OpenFiles()
    tensors = APPLE_MLLM.rename(open_weights(folder / MLLM_FILE, files))
    tensors |= APPLE_UNET.rename(open_weights(folder / UNET_FILE, files))
    stored = tensors.get(OUR_STORED_EMBEDDINGS)
    if stored is not None and len(stored.shape) == 3 and stored.shape[0] == 1:  # with or without a batch axis
        tensors[OUR_STORED_EMBEDDINGS] = stored.changed(stored.shape[1:], lambda rows: rows[0])
    return tensors


def edit_head_config(tensors: LazyTensors, words: LazyTensor | None = None) -> dict[str, Any]:
    """Arguments of our ``EditHead`` from the shapes of its tensors.

    A size whose first witness is missing comes from the next, and in the end is the published one, so that `check_fit`
    can name everything that is missing at once.

    Args:
        tensors: Of the edit head, under our names; any may be missing.
        words: ``(rows, input_dim)`` word embeddings that came with it, which tell its input's width as well.

    Returns:
        The arguments; the number of heads, and that there are as many encoder as decoder layers, is ml-mgie's.
    """
    stored = tensors.get("stored_embeddings")
    num_layers = _num_layers(tensors)
    known = {**tensors, _WORDS: words} if words else tensors
    sizes = {argument: _size(known, argument, *witnesses) for argument, witnesses in _WITNESSES.items()}
    return {
        **sizes,
        "num_heads": NUM_HEADS,
        "num_encoder_layers": num_layers,
        "num_decoder_layers": num_layers,
        "num_stored_embeddings": stored.shape[0] if stored and stored.shape else 0,
    }


def _size(tensors: LazyTensors, argument: str, *witnesses: tuple[str, int]) -> int:
    """Size by the first witness, a pattern of names and an axis, that a module can be made with."""
    for pattern, axis in witnesses:
        for name in filter(re.compile(pattern).fullmatch, tensors):
            shape = tensors[name].shape
            size = shape[axis] if axis < len(shape) else 0
            if size and (argument != "hidden_dim" or size % NUM_HEADS == 0):
                return size
    return PUBLISHED_SIZES[argument]


def _num_layers(tensors: LazyTensors) -> int:
    """By the highest number, not by counting: a file that lost its last encoder layer still has a decoder's."""
    found = filter(None, map(re.compile(r"mapper\.(?:encoder|decoder)\.layers\.(\d+)\..+").fullmatch, tensors))
    return max((1 + int(match[1]) for match in found), default=PUBLISHED_LAYERS)
