"""LLaVA folders and deltas -> the MLLM's part of an export."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.files import write_card
from mgie_lit.checkpoints.cards.origins import Origin, origins_of
from mgie_lit.checkpoints.destination import new_folder
from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors, OpenFiles
from mgie_lit.checkpoints.mismatch import Fit, check_fit
from mgie_lit.checkpoints.mllm_source import EMBEDDINGS, LM_HEAD, PART, MLLMSource, open_mllm, with_tied_head
from mgie_lit.checkpoints.parts import Part, check_parts, write_image_processor
from mgie_lit.checkpoints.writing import OnBytes
from mgie_lit.errors import CheckpointError
from mgie_lit.prompts import load_tokenizer
from mgie_lit.vocabulary import IMAGE_PATCH_TOKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER = "tokenizer"
_SENTENCEPIECE = "tokenizer.model"
_TOKENIZER_FILES = (_SENTENCEPIECE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def convert_llava(source: Path, dest: Path, *, vision: Path | None = None, on_bytes: OnBytes | None = None) -> None:
    """Write a LLaVA folder of either format as the MLLM's part of an export, from which a training can start.

    Args:
        source: LLaVA folder; a plain LLaMA gives an MLLM without vision.
        dest: New folder: ``mllm/``, ``tokenizer/`` with image and visual tokens, ``image_processor/``.
        vision: CLIP folder of the tower; None = inside, else what the folder's config names.
        on_bytes: Told of progress.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit their config.
    """
    mllm = open_mllm(source, vision=vision, files=OpenFiles())
    write_mllm_export(mllm, source, dest, on_bytes, _origins({"mllm": source, "vision tower": vision}))


def convert_delta(
    source: Path, dest: Path, *, base: Path, vision: Path | None = None, on_bytes: OnBytes | None = None
) -> None:
    """Add delta weights to their base, as LLaVA's and Vicuna's own scripts do, and write the MLLM's part of an export.

    Args:
        source: Delta folder; its config and tokenizer are the result's.
        dest: New folder, as of `convert_llava`.
        base: LLaMA or Vicuna folder, or an export of one.
        vision: CLIP folder of the tower; None = inside the delta, else what its config names.
        on_bytes: Told of progress.

    Raises:
        CheckpointError: Weights are missing or damaged, or base and delta do not belong together.
    """
    files = OpenFiles(limit=2)
    delta = open_mllm(source, vision=vision, files=files)
    summed = replace(delta, tensors=add_delta(delta, open_mllm(base, files=files)))
    origins = _origins({"mllm, delta": source, "mllm, base": base, "vision tower": vision})
    write_mllm_export(summed, source, dest, on_bytes, origins)


def add_delta(delta: MLLMSource, base: MLLMSource) -> dict[str, LazyTensor]:
    """Sums of delta and base, made when they are loaded, in the delta's type.

    Rows and tensors of the image's side that the delta alone has are taken as they are.

    Args:
        delta: What was published.
        base: What it was made from.

    Returns:
        As many tensors as the delta has, in its order.

    Raises:
        CheckpointError: The base lacks tensors of the language model, or has others or of other shapes.
    """
    language = {name: lazy for name, lazy in delta.tensors.items() if name.startswith("language_model.")}
    expected = {
        name: (base.tensors[name].shape[0], *lazy.shape[1:]) if _may_be_shorter(name, lazy, base) else lazy.shape
        for name, lazy in language.items()
    }
    found = {name: lazy for name, lazy in base.tensors.items() if name.startswith("language_model.")}
    check_fit(f"{base.folder} (base of {delta.folder})", [Fit("base", expected, found, base.spell)])
    return {name: _sum(lazy, base.tensors[name]) if name in language else lazy for name, lazy in delta.tensors.items()}


def mllm_part(source: MLLMSource, tensors: LazyTensors, config: dict[str, Any], image_patch_id: int | None) -> Part:
    """The MLLM's part of an export.

    Args:
        source: Where the tensors come from, for messages.
        tensors: By our names.
        config: Of the source.
        image_patch_id: Id of ``<im_patch>`` in the tokenizer.

    Returns:
        The part, with the LM head's name also where it is the word embeddings' table.
    """
    has_vision = config["vision"] is not None
    tied = with_tied_head(tensors, is_tied=bool(config["language"].get("tie_word_embeddings")))
    arguments = {**config, "image_patch_id": image_patch_id if has_vision else None}
    return Part(PART, "MLLM", arguments, tied, source.spell)


def write_mllm_export(
    source: MLLMSource, tokenizer: Path, dest: Path, on_bytes: OnBytes | None, origins: tuple[Origin, ...]
) -> None:
    """Write ``mllm/``, ``tokenizer/`` and ``image_processor/`` to a new folder.

    Args:
        source: The MLLM.
        tokenizer: Folder with the tokenizer's files, or an export.
        dest: New folder.
        on_bytes: Told of progress.
        origins: Of the weights, for the card.

    Raises:
        CheckpointError: Something does not fit.
    """
    config = source.config()
    words = open_tokenizer(tokenizer)
    part = mllm_part(source, source.tensors, config, image_patch_id(words))
    check_parts(source.folder, [part])
    with new_folder(dest) as folder:
        part.write(folder, on_bytes)
        words.save_pretrained(folder / TOKENIZER)
        if config["vision"] is not None:
            write_image_processor(folder, config["vision"]["image_size"])
        write_card(folder, Card(dest.name, origins, is_pipeline=False).text())


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or of its ``tokenizer/``, with image and visual tokens.

    Of a folder with nothing but LLaMA's sentencepiece model only the tokenizer's files are read: transformers 5 takes
    ``model_type`` llava in the config beside it for another kind of tokenizer, which loses the blank at the beginning.

    Args:
        folder: LLaVA or LLaMA folder, or an export.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: There is none.
    """
    place = folder / TOKENIZER if (folder / TOKENIZER).is_dir() else folder
    try:
        if not (place / _SENTENCEPIECE).is_file() or (place / "tokenizer.json").is_file():
            return load_tokenizer(str(place))
        with TemporaryDirectory() as alone:
            for name in _TOKENIZER_FILES:
                if (place / name).is_file():
                    shutil.copyfile(place / name, Path(alone) / name)
            return load_tokenizer(alone)
    except (CheckpointError, TypeError, AttributeError, LookupError, ImportError) as error:
        raise CheckpointError(
            f"{place}: expected a tokenizer (tokenizer.model, or tokenizer.json with tokenizer_config.json), can not "
            f"load one ({str(error).splitlines()[0]}); download these files, too"
        ) from error


def image_patch_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of ``<im_patch>``."""
    index = tokenizer.convert_tokens_to_ids(IMAGE_PATCH_TOKEN)
    assert isinstance(index, int)
    return index


def _origins(folders: Mapping[str, Path | None]) -> tuple[Origin, ...]:
    return tuple(one for part, folder in folders.items() if folder is not None for one in origins_of(folder, part))


def _may_be_shorter(name: str, lazy: LazyTensor, base: MLLMSource) -> bool:
    """Whether the base's vocabulary is a smaller one."""
    own = base.tensors.get(name)
    return name in (EMBEDDINGS, LM_HEAD) and own is not None and bool(own.shape) and own.shape[0] <= lazy.shape[0]


def _sum(delta: LazyTensor, base: LazyTensor) -> LazyTensor:
    def add(values: Tensor) -> Tensor:
        total = values.clone()
        rows = total[: base.shape[0]]
        rows += base.load().to(total.dtype)
        return total

    return delta.changed(delta.shape, add)
