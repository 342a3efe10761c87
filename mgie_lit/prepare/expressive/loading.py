"""Folders of transformers models: checked before anything long begins, loaded without a tensor missing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
)

from mgie_lit.checkpoints.weight_files import has_weights
from mgie_lit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HASHED = {".json", ".safetensors", ".bin", ".gguf", ".model", ".jinja", ".txt"}
_READ_BYTES = 2**22


@dataclass(frozen=True)
class ModelKind:
    """A task of transformers that a folder's model has to have."""

    auto: Any  # one of transformers' Auto classes
    what: str  # in messages
    example: str  # a model to download
    otherwise: str  # what to do with a model of another kind


IMAGE_TEXT = ModelKind(
    AutoModelForImageTextToText,
    "an MLLM that looks at images, such as LLaVA",
    "llava-hf/llava-1.5-7b-hf",
    "an LLM without eyes goes with expressive=text_only",
)
TEXT = ModelKind(
    AutoModelForCausalLM,
    "an LLM that continues text, such as LLaMA",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "an MLLM that looks at images goes with expressive=llava",
)
SUMMARISER = ModelKind(
    AutoModelForSeq2SeqLM,
    "an encoder and decoder, such as Flan-T5",
    "jordiclive/flan-t5-11b-summarizer-filtered",
    "expressive/summariser=none does without",
)


@dataclass(frozen=True)
class ModelFolder:
    """A folder with config, weights and tokenizer of one model.

    Args:
        path: As the user wrote it; None = not given.
        kind: What it has to be.
        option: Config key of the model's part, e.g. ``expressive.deriver``.
        gguf_file: Name of a GGUF file in the folder, which holds everything; None = transformers' own files.
    """

    path: str | None
    kind: ModelKind
    option: str
    gguf_file: str | None = None

    @property
    def folder(self) -> Path:
        """The folder."""
        return Path(str(self.path)).expanduser()

    def check(self) -> None:
        """Look whether the folder can be what is wanted; no weights are read.

        Raises:
            ConfigError: It is missing, incomplete or another kind of model; the message says what to do.
        """
        wanted = f"{self.option}.model: expected a folder with {self.kind.what}"
        if self.path is None or not self.folder.is_dir():
            got = (
                "null"
                if self.path is None
                else f"{self.path}, which is {'a file' if self.folder.is_file() else 'not there'}"
            )
            raise ConfigError(f"{wanted}, got {got}; {self._advice()}")
        if self.gguf_file is not None:
            if not (self.folder / self.gguf_file).is_file():
                there = ", ".join(sorted(file.name for file in self.folder.glob("*.gguf"))) or "no .gguf file"
                raise ConfigError(
                    f"{self.option}.gguf_file: expected a file in {self.path}, got {self.gguf_file}; there is {there}"
                )
            return
        lost = [
            name
            for name, is_there in (
                ("config.json", (self.folder / "config.json").is_file()),
                ("weights (model.safetensors)", has_weights(self.folder)),
            )
            if not is_there
        ]
        if lost:
            raise ConfigError(f"{wanted}, got {self.path} without {' and '.join(lost)}; {self._advice()}")
        self._check_kind(wanted)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over names and contents of config, weights and tokenizer."""
        files = [self.folder / self.gguf_file] if self.gguf_file else sorted(self.folder.iterdir())
        digest = hashlib.sha256()
        for file in files:
            if file.suffix in _HASHED and file.is_file():
                digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
                with file.open("rb") as content:
                    while block := content.read(_READ_BYTES):
                        digest.update(block)
        return digest.hexdigest()

    def load_model(self, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model in eval mode; its own sampling defaults are removed.

        Args:
            dtype: Of weights and activations.
            device: Where it runs.

        Returns:
            The model.

        Raises:
            CheckpointError: The weights can not be read, or tensors are missing.
        """
        extra = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        model, info = self._read(
            lambda: self.kind.auto.from_pretrained(
                self.folder,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **extra,
            ),
            "weights",
        )
        if lost := sorted([*info["missing_keys"], *(str(entry[0]) for entry in info["mismatched_keys"])]):
            shown = ", ".join(lost[:4]) + (", ..." if len(lost) > 4 else "")
            raise CheckpointError(
                f"{self.option}.model: expected all weights in {self.path}, but {len(lost)} tensors are missing or "
                f"have another shape ({shown}), which would be drawn at random; download the folder again"
            )
        own = model.generation_config
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            **{
                name: value
                for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
                if (value := getattr(own, name, None)) is not None
            }
        )
        placed: PreTrainedModel = model.to(device).eval()
        return placed

    def load_text_part(self, load: Callable[..., Any], what: str) -> Any:  # noqa: ANN401 - tokenizer or processor
        """A tokenizer or processor.

        Args:
            load: A ``from_pretrained``.
            what: Its name in messages.

        Returns:
            What ``load`` gives.

        Raises:
            CheckpointError: It can not be read.
        """
        extra = {"gguf_file": self.gguf_file} if self.gguf_file else {}
        return self._read(lambda: load(self.folder, local_files_only=True, trust_remote_code=False, **extra), what)

    def _read(self, load: Callable[[], Any], what: str) -> Any:  # noqa: ANN401
        try:
            return load()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CheckpointError(
                f"{self.option}.model: expected the {what} of {self.kind.what} in {self.path}, can not read it: "
                f"{reason}; download the folder again"
            ) from error
        except Exception as error:  # safetensors has an error class of its own
            if type(error).__module__.partition(".")[0] not in {"safetensors", "safetensors_rust", "pickle", "_pickle"}:
                raise
            raise CheckpointError(
                f"{self.option}.model: expected the {what} of {self.kind.what} in {self.path}, can not read it: "
                f"{error}; download the folder again"
            ) from error

    def _check_kind(self, wanted: str) -> None:
        path = self.folder / "config.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            name = content.get("model_type")
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{path}: expected a JSON object, can not read it ({error}); download it again"
            ) from error
        if "mm_vision_tower" in content:
            raise ConfigError(
                f"{wanted} as transformers writes it, got {self.path} in LLaVA's own format; {self._advice()}"
            )
        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{wanted}, got {self.path} with model_type {name!r}, which this version of transformers can not "
                f"build; {self._advice()}"
            ) from error
        if type(config) not in self.kind.auto._model_mapping:
            raise ConfigError(f"{wanted}, got {self.path} with model_type {name!r}; {self.kind.otherwise}")

    def _advice(self) -> str:
        return (
            f"download one, e.g. `hf download {self.kind.example} --local-dir <folder>`, and give "
            f"{self.option}.model=<folder>"
        )


def choose_dtype(name: str, device: torch.device, option: str) -> tuple[str, torch.dtype]:
    """The data type that a config asks for.

    Args:
        name: ``float32``, ``bfloat16``, ``float16``, or ``auto``: bfloat16 on a GPU, float32 elsewhere.
        device: Where the model runs.
        option: Config key of the model's part, for the message.

    Returns:
        Name and type.

    Raises:
        ConfigError: The name is unknown.
    """
    if name == "auto":
        name = "bfloat16" if device.type == "cuda" else "float32"
    if name not in DTYPES:
        raise ConfigError(f"{option}.dtype: expected auto, {', '.join(DTYPES)}, got {name}")
    return name, DTYPES[name]
