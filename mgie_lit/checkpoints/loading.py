"""Published weights into modules that are in memory: where a training starts from.

Every function fills a module in place, whatever its number type and device, and changes nothing where it raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mgie_lit.checkpoints.apple_source import open_apple
from mgie_lit.checkpoints.diffusion_source import open_autoencoder, open_unet, widened_unet
from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors
from mgie_lit.checkpoints.mismatch import Fit, check_fit
from mgie_lit.checkpoints.mllm_source import EMBEDDINGS, LM_HEAD, open_mllm, with_tied_head
from mgie_lit.checkpoints.names.apple import MLLM_FILE, OUR_STORED_EMBEDDINGS
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM

_HEAD, _MLLM, _UNET = "guide.edit_head.", "guide.mllm.", "unet."


def load_mllm(mllm: MLLM, folder: str | Path, *, vision: str | Path | None = None) -> None:
    """Fill an MLLM from a LLaVA folder of either format, a LLaMA folder (no vision), or an export of ours.

    Rows of the word embeddings and the LM head that the folder does not have (visual tokens) keep what they hold. An
    MLLM without vision takes the language model alone.

    Args:
        mllm: Changed in place.
        folder: Of the weights.
        vision: CLIP folder of the tower; None = inside, else what the folder's config names.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit; the message lists all that do not.
    """
    source = open_mllm(Path(folder), vision=None if vision is None else Path(vision))
    state = mllm.state_dict()
    tensors = with_tied_head(source.tensors, is_tied=bool(mllm.language_model.config.tie_word_embeddings))
    if mllm.vision_tower is None:
        tensors = {name: lazy for name, lazy in tensors.items() if name.startswith("language_model.")}
    tensors = _with_rows_of(tensors, state, (EMBEDDINGS, LM_HEAD))
    check_fit(folder, [Fit("mllm", _shapes(state), tensors, source.spell)])
    _fill(state, tensors)


def load_unet(unet: nn.Module, source: str | Path) -> None:
    """Fill a UNet from a pipeline folder, a UNet folder, Apple's ``unet.pt``, or an export of ours.

    A UNet with fewer input channels (SD-1.5's 4) is widened: the weights of the new ones are zero, the bias is kept.

    Args:
        unet: ``UNet2DConditionModel``, changed in place.
        source: Where the weights are.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit; the message lists all that do not.
    """
    state = unet.state_dict()
    tensors = widened_unet(open_unet(Path(source)), int(unet.config["in_channels"]))  # type: ignore[index]
    check_fit(source, [Fit("unet", _shapes(state), tensors)])
    _fill(state, tensors)


def load_autoencoder(autoencoder: nn.Module, source: str | Path) -> None:
    """Fill an autoencoder from a pipeline folder, its own folder, or an export of ours.

    Args:
        autoencoder: ``AutoencoderKL``, changed in place.
        source: Where the weights are; diffusers' first names are understood, too.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit; the message lists all that do not.
    """
    state = autoencoder.state_dict()
    tensors = open_autoencoder(Path(source))
    check_fit(source, [Fit("autoencoder", _shapes(state), tensors)])
    _fill(state, tensors)


def load_edit_head(edit_head: EditHead, source: str | Path) -> None:
    """Fill an edit head from an export folder of ours, its ``edit_head`` part, or the folder with Apple's ``mllm.pt``.

    Args:
        edit_head: Changed in place.
        source: Where the weights are.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit; the message lists all that do not.
    """
    path = Path(source)
    state = edit_head.state_dict()
    if (path / MLLM_FILE).is_file():
        tensors = _of_part(_apple_tensors(path, edit_head), _HEAD)
    else:
        tensors = open_weights(path / "edit_head" if (path / "edit_head").is_dir() else path)
    check_fit(source, [Fit("edit_head", _shapes(state), tensors)])
    _fill(state, tensors)


def load_apple(editor: Editor, folder: str | Path) -> None:
    """Put Apple's ``mllm.pt`` and ``unet.pt`` over an editor: words, edit head and UNet; the rest stays.

    Args:
        editor: With an ``MLLMGuide``, changed in place. Its edit head takes the stored embeddings of the file if it
            has a place for them; where the file has none, they are the rows of the file's table.
        folder: With both files.

    Raises:
        CheckpointError: A file is missing, damaged, holds code, or does not fit; the message lists all that does not.
    """
    guide = editor.guide
    if not isinstance(guide, MLLMGuide):
        raise CheckpointError(f"{folder}: expected a system with an MLLM (model=mgie), got a {type(guide).__name__}")
    tensors = _apple_tensors(Path(folder), guide.edit_head)
    parts: list[tuple[str, Mapping[str, Tensor], dict[str, LazyTensor]]] = []
    words = _of_part(tensors, _MLLM)
    word_state = {name: value for name, value in guide.mllm.state_dict().items() if name in (EMBEDDINGS, LM_HEAD)}
    parts.append(("mllm", word_state, _with_rows_of(words, word_state, (EMBEDDINGS, LM_HEAD))))
    parts.append(("edit_head", guide.edit_head.state_dict(), _of_part(tensors, _HEAD)))
    parts.append(("unet", editor.unet.state_dict(), _of_part(tensors, _UNET)))
    others = {name: lazy for name, lazy in tensors.items() if not name.startswith((_MLLM, _HEAD, _UNET))}
    check_fit(folder, [Fit(MLLM_FILE, {}, others), *(Fit(name, _shapes(state), found) for name, state, found in parts)])
    for _, state, found in parts:
        _fill(state, found)


def _apple_tensors(folder: Path, edit_head: EditHead) -> dict[str, LazyTensor]:
    """Apple's tensors, with stored embeddings exactly where the edit head has a place for them."""
    tensors = open_apple(folder)
    if edit_head.stored_embeddings is None:
        tensors.pop(OUR_STORED_EMBEDDINGS, None)
    elif OUR_STORED_EMBEDDINGS not in tensors and _MLLM + EMBEDDINGS in tensors:
        num_rows = len(edit_head.stored_embeddings)
        table = tensors[_MLLM + EMBEDDINGS]
        tensors[OUR_STORED_EMBEDDINGS] = table.changed((num_rows, *table.shape[1:]), lambda rows: rows[-num_rows:])
    return tensors


def _of_part(tensors: LazyTensors, prefix: str) -> dict[str, LazyTensor]:
    return {name.removeprefix(prefix): lazy for name, lazy in tensors.items() if name.startswith(prefix)}


def _with_rows_of(tensors: LazyTensors, state: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, LazyTensor]:
    """Tables with fewer rows than the module's are continued by the module's own."""
    longer = dict(tensors)
    for name in names:
        lazy, current = tensors.get(name), state.get(name)
        if lazy is None or current is None or len(lazy.shape) != current.ndim or lazy.shape[1:] != current.shape[1:]:
            continue
        if lazy.shape[0] < len(current):
            longer[name] = lazy.changed(tuple(current.shape), lambda rows, own=current: _continued(rows, own))  # type: ignore[misc]
    return longer


def _continued(rows: Tensor, own: Tensor) -> Tensor:
    return torch.cat([rows.to(own.device, own.dtype), own[len(rows) :]])


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _fill(state: Mapping[str, Tensor], tensors: LazyTensors) -> None:
    with torch.no_grad():
        for name, lazy in tensors.items():
            state[name].copy_(lazy.load())
