"""A folder that somebody else made is looked through before any library reads it: data are taken, code is refused.

Weights of an export are safetensors. A pickle runs what its author wrote when it is opened; a ``.py`` file, an
``auto_map`` or a module of another package in ``model_index.json`` are what diffusers and transformers import.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.json_files import read_json
from mgie_lit.errors import CheckpointError

PIPELINE = "MGIEPipeline"
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
CODE = (".py", ".pyc", ".pyd", ".so")
CODE_KEYS = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code")
LIBRARIES = ("diffusers", "transformers")
OWN_PARTS = "mgie_lit.models."  # the modules of ours that parts come from
_CONFIGS = ("config.json", "model_index.json")  # ends of the names of files that libraries take settings from
_REMEDY = (
    "nothing in the folder was run; get an export of safetensors from somebody you trust, or make it with mgie convert"
)


def check_options(options: dict[str, Any]) -> None:
    """Take diffusers' options that would run a folder's own code or open its pickles, and refuse them if they are set.

    Args:
        options: Of ``from_pretrained``, changed in place.

    Raises:
        CheckpointError: One is set.
    """
    asked = [key for key in CODE_KEYS if options.pop(key, None)]
    if options.pop("use_safetensors", True) is False:
        asked.append("use_safetensors=False")
    if asked:
        raise CheckpointError(
            f"{', '.join(asked)}: expected nothing of the kind, an export holds configs and safetensors and no code is "
            "taken from it; leave it out"
        )


def read_index(path: Path, class_names: set[str]) -> dict[str, Any]:
    """The index, if it names this pipeline; diffusers would go on with another one's parts.

    Args:
        path: Of ``model_index.json``.
        class_names: That the pipeline may have.

    Returns:
        Its content.

    Raises:
        CheckpointError: It can not be read, or is another pipeline's.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected a JSON file as save_pretrained writes it, can not read it "
            f"({str(error).splitlines()[0]}); copy or export the folder again"
        ) from error
    found = index.get("_class_name") if isinstance(index, dict) else type(index).__name__
    if not isinstance(found, str) or found not in class_names:  # a list names a pipeline of the folder's own code
        raise CheckpointError(
            f"{path}: expected the index of a {PIPELINE}, got {found}; name a folder that "
            "save_pretrained wrote, or a run directory"
        )
    return dict(index)


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
        if not isinstance(value, list) or all(one is None or isinstance(one, (int, float)) for one in value):
            continue  # a setting, or a part that is left out
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
