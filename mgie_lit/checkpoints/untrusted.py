"""A folder that somebody else made is looked through before any library reads it: data are taken, code is refused.

Weights of an export are safetensors. A pickle runs what its author wrote when it is opened; a ``.py`` file, an
``auto_map`` or a module of another package in ``model_index.json`` are what diffusers and transformers import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.json_files import read_json
from mgie_lit.errors import CheckpointError

PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
CODE = (".py", ".pyc", ".pyd", ".so")
CODE_KEYS = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code")
LIBRARIES = ("diffusers", "transformers")
OWN_PARTS = "mgie_lit.models."  # the modules of ours that parts come from
_CONFIGS = ("config.json", "model_index.json")  # ends of the names of files that libraries take settings from
_REMEDY = (
    "nothing in the folder was run; get an export of safetensors from somebody you trust, or make it with mgie convert"
)


def check_no_code(folder: Path, index: Mapping[str, Any]) -> None:
    """Whether an export holds data alone.

    Args:
        folder: Of the export.
        index: Content of its ``model_index.json``.

    Raises:
        CheckpointError: There are pickles or code, or settings ask for code; the message names all of them.
    """
    found = [*_files(folder), *_foreign_parts(index), *_settings(folder)]
    if found:
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        raise CheckpointError(
            f"model {folder}: refused, expected configs and safetensors without code, got "
            f"{'; '.join(found[:6])}{more}; {_REMEDY}"
        )


def _files(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("*")):
        kind = {**dict.fromkeys(PICKLES, "a pickle"), **dict.fromkeys(CODE, "code")}.get(file.suffix.lower())
        if kind is not None and not file.is_dir():
            yield f"{file.relative_to(folder)} ({kind})"


def _foreign_parts(index: Mapping[str, Any]) -> Iterator[str]:
    """Parts of other modules than those that an export of ours is made of."""
    for name, value in index.items():
        if not isinstance(value, list) or not any(isinstance(one, str) for one in value):
            continue  # no part, or numbers
        module = value[0] if len(value) == 2 and all(isinstance(one, str) for one in value) else None
        if module is None or not (module in LIBRARIES or module.startswith(OWN_PARTS)):
            yield f"model_index.json: {name} of {'.'.join(map(str, value))}"


def _settings(folder: Path) -> Iterator[str]:
    """Keys that make the libraries import a file of the folder or of the hub."""
    for file in sorted(folder.rglob("*.json")):
        if not file.name.endswith(_CONFIGS):
            continue
        try:
            content = read_json(file)
        except CheckpointError:  # damaged: whoever reads the part says so
            continue
        yield from (f"{file.relative_to(folder)}: {key}" for key in CODE_KEYS if content.get(key))
