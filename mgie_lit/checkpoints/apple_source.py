"""Apple's two files as they lie on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors, OpenFiles
from mgie_lit.checkpoints.names.apple import APPLE_MLLM, APPLE_UNET, MLLM_FILE, OUR_STORED_EMBEDDINGS, UNET_FILE
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.errors import CheckpointError

NUM_HEADS = 4  # of the edit head, ml-mgie; shapes do not tell


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


def edit_head_config(tensors: LazyTensors) -> dict[str, Any]:
    """Arguments of our ``EditHead`` from the shapes of its tensors.

    Args:
        tensors: Of the edit head, under our names.

    Returns:
        The arguments; the number of heads is ml-mgie's.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
    """
    try:
        hidden_dim, input_dim = tensors["llm2hid.weight"].shape
        stored = tensors.get("stored_embeddings")
        return {
            "input_dim": input_dim,
            "hidden_dim": hidden_dim,
            "output_dim": tensors["hid2feat.weight"].shape[0],
            "num_queries": tensors["query"].shape[1],
            "num_heads": NUM_HEADS,
            "num_encoder_layers": _num_layers(tensors, "encoder"),
            "num_decoder_layers": _num_layers(tensors, "decoder"),
            "feedforward_dim": tensors["mapper.encoder.layers.0.linear1.weight"].shape[0],
            "num_stored_embeddings": 0 if stored is None else stored.shape[0],
        }
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{MLLM_FILE}: expected a whole edit head, can not tell its sizes (edit_head.{error.args[0]})"
        ) from error


def _num_layers(tensors: LazyTensors, kind: str) -> int:
    prefix = f"mapper.{kind}.layers."
    return len({name.split(".")[3] for name in tensors if name.startswith(prefix)})
