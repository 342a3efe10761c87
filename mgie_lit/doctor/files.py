"""Which files a training reads, whether they are there, and how to get them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mgie_lit.checkpoints.diffusion_source import open_autoencoder, open_unet
from mgie_lit.checkpoints.mllm_source import open_mllm
from mgie_lit.checkpoints.names.apple import MLLM_FILE
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.errors import CheckpointError
from mgie_lit.prompts import load_tokenizer

State = Literal["here", "missing", "random", "download"]
SMALL_TOKENIZER = "small"
HUB_DATA = "hf:"  # prefix of a data root that names a data set on the hub
RAW_WORDS = "instruction"  # `data.expressive` that takes the instruction itself
_NEEDS_NO_FOLDER = "photo_edits"  # its pictures come with the package
_BRINGS_ITS_OWN = ("imagefolder",)  # data sets whose rows may hold expressive instructions

_EXPECTED = {
    "mllm": "LLaVA-7B v1 (LLaMA with projector and vision tower), or an export with an mllm part",
    "edit_head": f"an export folder, or the folder with Apple's {MLLM_FILE}",
    "diffusion": "Stable Diffusion 1.5 or InstructPix2Pix as a diffusers folder, or an export",
}
_HOW = {
    "mllm": "docs/models.md#llava; `mgie convert DELTA DEST --from delta --to export --base LLAMA`, then "
    "size.start.mllm=DEST",
    "edit_head": "docs/models.md#mgie; size.start.edit_head=null starts with a random one, as the paper",
    "diffusion": "docs/models.md#stable-diffusion; download the folder and name it with size.start.diffusion=",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that a training reads at its start."""

    key: str  # of the config
    place: str  # what the config says
    state: State
    expected: str = ""
    fault: str = ""  # what is wrong with it
    how: str = ""  # to get it


def start_requirements(start: Mapping[str, str | None]) -> list[Requirement]:
    """Weights to start from; the headers of their files are read, so that a missing shard is noticed.

    Args:
        start: ``size.start``.

    Returns:
        One for each key.
    """
    checks = {"mllm": _check_mllm, "edit_head": _check_edit_head, "diffusion": _check_diffusion}
    # no folder for the vision tower alone is no random tower: LLaVA's folder brings or names it
    named = {name: place for name, place in start.items() if name != "vision" or place is not None}
    return [_checked_start(name, place, checks.get(name, _check_folder)) for name, place in named.items()]


def tokenizer_requirement(source: str | None) -> Requirement:
    """The tokenizer (``size.tokenizer.source``)."""
    key, expected = "size.tokenizer.source", "LLaMA's tokenizer: tokenizer.model, or tokenizer.json"
    how = "docs/models.md#llava; it lies in the folder of LLaVA, LLaMA or Vicuna, in an export below tokenizer/"
    if source is None:
        return Requirement(key, "null", "missing", expected, "nothing is named", how)
    if source == SMALL_TOKENIZER:
        return Requirement(key, source, "here", "ships in the package")
    if not Path(source).exists():
        if state := _hub_state(source, "tokenizer_config.json"):
            return Requirement(key, source, state, expected)
        return Requirement(key, source, "missing", expected, "there is no such folder", how)
    try:
        load_tokenizer(source)
    except CheckpointError as error:
        return Requirement(key, source, "missing", expected, str(error).splitlines()[0], how)
    return Requirement(key, source, "here", expected)


def data_requirements(data: Mapping[str, Any], name: str, path: str = "data") -> Iterator[Requirement]:
    """Folder and expressive instructions of a data set, or of each one of a mixture.

    Args:
        data: Config of the data, a mixture's parts inside.
        name: Which data set it is, for the address of its description.
        path: Config key of ``data``.

    Yields:
        What is not made on the fly.
    """
    if "root" in data:
        can_open = False  # then the data themselves say whether they lack anything
        if data["root"] is not None or not name.startswith(_NEEDS_NO_FOLDER):
            root = _data_root(data["root"], f"{path}.root", f"docs/datasets.md#{name}")
            can_open = root.state == "here"
            yield root
        if "expressive" in data and (data["expressive"] is not None or not (can_open or name in _BRINGS_ITS_OWN)):
            yield _expressive(data["expressive"], f"{path}.expressive")
    for key, part in data.items():
        if isinstance(part, Mapping) and key != "reader":
            yield from data_requirements(part, str(key), f"{path}.{key}")


def encoder_requirements(metrics: Mapping[str, Any]) -> Iterator[Requirement]:
    """Image encoders of the metrics that a validation computes.

    Args:
        metrics: Configs by name; null ones are off.

    Yields:
        One for each encoder.
    """
    for name, node in metrics.items():
        encoder = node.get("encoder") if isinstance(node, Mapping) else None
        if not isinstance(encoder, Mapping):
            continue
        source, key = encoder.get("source"), f"metrics.{name}.encoder.source"
        expected, how = f"image encoder of {name}", "docs/models.md#encoders; or leave the metric out: metrics=pixel"
        if source is None:
            yield Requirement(key, "null", "missing", expected, "nothing is named", how)
        elif (Path(source) / "config.json").is_file():
            yield Requirement(key, source, "here", expected)
        elif state := _hub_state(str(source), "config.json"):
            yield Requirement(key, source, state, expected)
        else:
            yield Requirement(key, source, "missing", expected, "there is no such folder with a config.json", how)


def _checked_start(name: str, place: str | None, check: Callable[[Path], None]) -> Requirement:
    key = f"size.start.{name}"
    if place is None:
        return Requirement(key, "null", "random", "random weights")
    try:
        check(Path(place))
    except CheckpointError as error:
        fault = str(error).splitlines()[0].removeprefix(f"{place}: ")
        return Requirement(key, place, "missing", _EXPECTED.get(name, ""), fault, _HOW.get(name, "docs/models.md"))
    return Requirement(key, place, "here", _EXPECTED.get(name, ""))


def _check_mllm(folder: Path) -> None:
    open_mllm(folder)


def _check_diffusion(folder: Path) -> None:
    open_unet(folder)
    open_autoencoder(folder)


def _check_edit_head(folder: Path) -> None:
    inside = (folder / MLLM_FILE, folder / "edit_head")
    open_weights(next((place for place in inside if place.exists()), folder))


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise CheckpointError(f"{folder}: expected a folder of weights, found nothing")


def _data_root(root: str | None, key: str, description: str) -> Requirement:
    expected = f"the data set in a layout of {description}"
    if root is None:
        return Requirement(key, "null", "missing", expected, "nothing is named", f"{description}; {key}=FOLDER")
    if str(root).startswith(HUB_DATA):
        return Requirement(key, str(root), "download", expected)
    if Path(root).is_dir():
        return Requirement(key, str(root), "here", expected)
    return Requirement(key, str(root), "missing", expected, "there is no such folder", description)


def _expressive(value: str | list[str] | None, key: str) -> Requirement:
    expected = "expressive instructions, one a pair"
    how = f"`mgie prepare expressive`, then {key}=FILE; or the raw words: {key}={RAW_WORDS}"
    if value is None:
        return Requirement(key, "null", "missing", expected, "nothing is named", how)
    if value == RAW_WORDS:
        return Requirement(key, RAW_WORDS, "here", "the raw words")
    files = [value] if isinstance(value, str) else list(value)
    lost = [file for file in files if not Path(file).is_file()]
    if lost:
        return Requirement(key, ", ".join(files), "missing", expected, f"there is no file {', '.join(lost)}", how)
    return Requirement(key, ", ".join(files), "here", expected)


def _hub_state(source: str, file: str) -> State | None:
    """Of a hub id: in this machine's cache, or to be downloaded; None for what is no hub id."""
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if isinstance(try_to_load_from_cache(source, file), str):
        return "here"
    return None if HF_HUB_OFFLINE else "download"
