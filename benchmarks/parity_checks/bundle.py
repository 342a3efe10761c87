"""A bundle: a folder with recorded inputs, draws and outputs of the released code, any subset of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

TRAIN_MANIFEST, INFER_MANIFEST = "train_manifest.json", "infer_manifest.json"
TRAINER_RUN, DEMO_PROMPTS = "trainer_run.json", "demo_prompt_ids.json"
TRAIN_INPUTS, STORED_WEIGHTS, TOKENIZER = "train_inputs.safetensors", "tiny_weights.safetensors", "tokenizer.model"
HALF = "infer_half.safetensors"
CORE = (TRAIN_MANIFEST, TRAIN_INPUTS, STORED_WEIGHTS, TOKENIZER)
CORE_STEPS = ("v0", "v1", "v2", "v3", "v4")  # training steps, whatever stands behind in the file's name
_TRAIN, _INFER, _NORMS, _SUFFIX = "train_", "infer_", "_gradnorms.json", ".safetensors"


class BundleError(Exception):
    """A bundle that can not be read; the message says which file, and what to do."""


class NotRecorded(LookupError):  # noqa: N818 - not an error of anybody
    """A check can not be made because something that it needs is not in the bundle; the message says what."""


class Bundle:
    """Files of a folder, read when asked for; what is missing is empty.

    Args:
        folder: With any subset of the files of the format.

    Raises:
        BundleError: There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BundleError(f"--golden: expected a folder with recorded numbers, got {folder}; name an existing one")
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the folder holds this file."""
        return (self.folder / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """Content of a JSON file; empty where it is missing.

        Args:
            name: Of the file.

        Returns:
            The object.

        Raises:
            BundleError: It is no JSON object.
        """
        if not self.has(name):
            return {}
        try:
            content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _unreadable(self.folder / name, "a JSON file", error) from error
        if not isinstance(content, dict):
            raise _unreadable(self.folder / name, "a JSON object", TypeError(type(content).__name__))
        return content

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of a safetensors file; empty where it is missing.

        Args:
            name: Of the file.

        Returns:
            By name, on the CPU.

        Raises:
            BundleError: It is no whole safetensors file.
        """
        if not self.has(name):
            return {}
        try:
            return load_file(self.folder / name)
        except (SafetensorError, OSError, ValueError) as error:
            raise _unreadable(self.folder / name, "a whole safetensors file", error) from error

    @cached_property
    def train(self) -> dict[str, Any]:
        """The manifest of the training runs."""
        return self.json(TRAIN_MANIFEST)

    @cached_property
    def infer(self) -> dict[str, Any]:
        """The manifest of the inference runs."""
        return self.json(INFER_MANIFEST)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Ids, pixels and JPEG bytes of the training batch."""
        return self.tensors(TRAIN_INPUTS)

    @property
    def results(self) -> dict[str, Any]:
        """What the training manifest says of each run."""
        return _mapping(self.train.get("results"))

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Instruction and expressive instruction of each training sample."""
        return [(str(instruction), str(expressive)) for instruction, expressive in self.train.get("text") or []]

    @property
    def cases(self) -> dict[str, Any]:
        """What the inference manifest says of each case."""
        return _mapping(self.infer.get("cases"))

    def training_steps(self) -> list[str]:
        """Names of the recorded training steps, those that only the manifest or only a file knows too."""
        files = self._names(_TRAIN, _SUFFIX) - {"inputs"} | self._names(_TRAIN, _NORMS)
        recorded = {name for name, entry in self.results.items() if name[:1] == "v" and "ts" in _mapping(entry)}
        truncated = {name for name, entry in self.results.items() if "len" in _mapping(entry)}
        found = files | recorded | truncated
        found |= {step for step in CORE_STEPS if not any(is_step(name, step) for name in found)}
        return sorted(found)

    def inference_cases(self) -> list[str]:
        """Names of the recorded edits, those that only the manifest or only a file knows too."""
        return sorted((self._names(_INFER, _SUFFIX) - {"half"}) | set(self.cases))

    def step_tensors(self, name: str) -> dict[str, Tensor]:
        """What is recorded of a training step."""
        return self.tensors(f"{_TRAIN}{name}{_SUFFIX}")

    def gradient_norms(self, name: str) -> dict[str, float]:
        """Norm of every tensor's gradient in a training step."""
        return self.json(f"{_TRAIN}{name}{_NORMS}")

    def case_tensors(self, name: str) -> dict[str, Tensor]:
        """What is recorded of an edit."""
        return self.tensors(f"{_INFER}{name}{_SUFFIX}")

    def missing_core(self) -> list[str]:
        """Files that every bundle must have and this one lacks."""
        missing = [name for name in CORE if not self.has(name)]
        steps = self._names(_TRAIN, _SUFFIX)
        missing += [
            f"{_TRAIN}{step}*{_SUFFIX}" for step in CORE_STEPS if not any(is_step(name, step) for name in steps)
        ]
        cases = self._names(_INFER, _SUFFIX) - {"half"}
        if not cases or (self.has(INFER_MANIFEST) and not cases & self._named_cases(cases)):
            missing.append(f"{_INFER}<case>{_SUFFIX} with its entry in {INFER_MANIFEST}")
        return missing

    def _named_cases(self, files: set[str]) -> set[str]:
        """Cases of the manifest; a damaged one has failed rows of its own, and says nothing on the files."""
        try:
            return set(self.cases)
        except BundleError:
            return files

    def _names(self, prefix: str, suffix: str) -> set[str]:
        """The middle parts of the names of files."""
        paths = self.folder.glob(f"{prefix}*{suffix}")
        return {path.name.removeprefix(prefix).removesuffix(suffix) for path in paths}


def is_step(name: str, step: str) -> bool:
    """Whether ``v0_nodrop`` is step ``v0`` (and ``v01`` is not)."""
    return name == step or name.startswith(f"{step}_")


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _unreadable(path: Path, expected: str, error: Exception) -> BundleError:
    return BundleError(f"{path}: expected {expected}, can not read it ({error}); copy the bundle again")
