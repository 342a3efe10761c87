"""A sequence-to-sequence model that shortens answers (arXiv:2309.17102: Flan-T5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.cleaning import one_line
from mgie_lit.prepare.expressive.loading import SUMMARISER, ModelFolder, choose_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Summariser:
    """Shortens paragraphs by beam search.

    Args:
        model: Folder of an encoder-decoder of transformers.
        prompt: What it reads; ``{paragraph}`` stands for the cleaned answer.
        num_beams: At least 1.
        min_length: Shortest summary in the model's tokens, with the start token.
        max_length: Longest summary in the model's tokens, with the start token.
        no_repeat_ngram_size: No so many tokens in a row come twice; 0 = they may.
        max_input_tokens: What is longer is cut.
        dtype: See `choose_dtype`.
        option: Config key of this part, for messages.

    Raises:
        ConfigError: A value can not be used.
    """

    def __init__(
        self,
        model: str | None,
        *,
        prompt: str,
        num_beams: int = 5,
        min_length: int = 5,
        max_length: int = 64,
        no_repeat_ngram_size: int = 3,
        max_input_tokens: int = 512,
        dtype: str = "auto",
        option: str = "expressive.summariser",
    ) -> None:
        if prompt.count("{paragraph}") != 1:
            raise ConfigError(f"{option}.prompt: expected a text with {{paragraph}} in it once, got {prompt!r}")
        least = {"num_beams": (num_beams, 1), "min_length": (min_length, 0), "max_input_tokens": (max_input_tokens, 1)}
        least |= {"no_repeat_ngram_size": (no_repeat_ngram_size, 0), "max_length": (max_length, max(2, min_length))}
        for name, (number, limit) in least.items():
            if number < limit:
                raise ConfigError(f"{option}.{name}: expected at least {limit}, got {number}")
        self.source = ModelFolder(model, SUMMARISER, option)
        self.prompt = prompt
        self.limits = {
            "num_beams": num_beams,
            "min_length": min_length,
            "max_length": max_length,
            "no_repeat_ngram_size": no_repeat_ngram_size,
        }
        self.max_input_tokens = max_input_tokens
        self.dtype = dtype
        self._model: PreTrainedModel
        self._tokenizer: PreTrainedTokenizerBase

    def check(self) -> None:
        """Look at the folder; no weights are read.

        Raises:
            ConfigError: It is missing, incomplete or another kind of model.
        """
        self.source.check()

    def settings(self, device: torch.device) -> dict[str, Any]:
        """All that the summaries depend on but device and library versions."""
        return {
            "weights": self.source.fingerprint(),
            "prompt": self.prompt,
            **self.limits,
            "max_input_tokens": self.max_input_tokens,
            "dtype": choose_dtype(self.dtype, device, self.source.option)[0],
        }

    def load(self, device: torch.device) -> None:
        """Read weights and tokenizer.

        Args:
            device: Where the model runs.

        Raises:
            CheckpointError: They can not be read.
        """
        self._tokenizer = self.source.load_text_part(AutoTokenizer.from_pretrained, "tokenizer")
        self._model = self.source.load_model(choose_dtype(self.dtype, device, self.source.option)[1], device)

    @torch.inference_mode()
    def summarise(self, paragraphs: Sequence[str]) -> list[str]:
        """Short forms of paragraphs.

        Args:
            paragraphs: Cleaned answers; an empty one stays empty.

        Returns:
            One line each; "" where the model wrote nothing.
        """
        full = [position for position, paragraph in enumerate(paragraphs) if paragraph]
        summaries = [""] * len(paragraphs)
        if not full:
            return summaries
        inputs = self._tokenizer(
            [self.prompt.replace("{paragraph}", paragraphs[position]) for position in full],
            padding=True,
            truncation=True,
            max_length=self.max_input_tokens,
            return_tensors="pt",
            return_token_type_ids=False,
        ).to(self._model.device)
        recipe = GenerationConfig(do_sample=False, **self.limits)  # type: ignore[no-untyped-call]
        ids: Tensor = self._model.generate(**inputs, generation_config=recipe)  # type: ignore[operator]
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        for position, text in zip(full, texts, strict=True):
            summaries[position] = one_line(text)
        return summaries
