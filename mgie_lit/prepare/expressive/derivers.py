"""Models that are asked what an edited image would look like: with eyes (MGIE) and without (LGIE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import AutoProcessor, AutoTokenizer, GenerationConfig

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.prepare.expressive.loading import IMAGE_TEXT, TEXT, ModelFolder, ModelKind, choose_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PLAIN = "USER: {question} ASSISTANT:"  # for models that bring no chat template of their own
_PLAIN_IMAGE = "USER: {image}\n{question} ASSISTANT:"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote."""

    text: str
    is_finished: bool  # False = stopped at max_new_tokens


class Deriver(Protocol):
    """A model that is asked about instructions."""

    sees: bool  # whether it wants the source images

    def check(self) -> None:
        """Look at its folder before anything long begins."""
        ...

    def settings(self, device: torch.device) -> dict[str, Any]:
        """All that its answers depend on."""
        ...

    def load(self, device: torch.device) -> None:
        """Read the weights."""
        ...

    def answer(self, instructions: Sequence[str], images: Sequence[Image.Image]) -> list[Answer]:
        """Answers to a batch of instructions."""
        ...


class TextDeriver:
    """An LLM that reads the instruction alone, as LGIE's (arXiv:2309.17102, section 4).

    Args:
        model: Folder of a causal language model of transformers.
        question: What is asked; ``{instruction}`` stands for the human's words.
        conversation: Text around ``{question}``; None = the tokenizer's chat template or, without one, a plain
            ``USER: ... ASSISTANT:``.
        system: What the model is told before the question; None = the template's own, "" = nothing where the template
            allows it. Only with a chat template.
        max_new_tokens: Longest answer.
        max_instruction_length: Characters of an instruction that are asked about; the rest is cut.
        dtype: See `choose_dtype`.
        gguf_file: Name of a GGUF file in the folder; needs the package ``gguf``.
        option: Config key of this part, for messages.

    Raises:
        ConfigError: A value can not be used.
    """

    sees = False
    kind: ModelKind = TEXT

    def __init__(
        self,
        model: str | None,
        *,
        question: str,
        conversation: str | None = None,
        system: str | None = None,
        max_new_tokens: int = 1024,
        max_instruction_length: int = 1000,
        dtype: str = "auto",
        gguf_file: str | None = None,
        option: str = "expressive.deriver",
    ) -> None:
        wanted = [("question", question, "{instruction}"), ("conversation", conversation, "{question}")]
        if self.sees:
            wanted.append(("conversation", conversation, "{image}"))
        for name, text, part in wanted:
            if text is not None and text.count(part) != 1:
                raise ConfigError(f"{option}.{name}: expected a text with {part} in it once, got {text!r}")
        for name, number in (("max_new_tokens", max_new_tokens), ("max_instruction_length", max_instruction_length)):
            if number < 1:
                raise ConfigError(f"{option}.{name}: expected at least 1, got {number}")
        if conversation is not None and system is not None:
            raise ConfigError(f"{option}.system: expected null beside a conversation, which holds all; write it there")
        self.source = ModelFolder(model, self.kind, option, gguf_file)
        self.question = question
        self.conversation = conversation
        self.system = system
        self.max_new_tokens = max_new_tokens
        self.max_instruction_length = max_instruction_length
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
        """All that the answers depend on but images, device and library versions."""
        return {
            "kind": type(self).__name__,
            "weights": self.source.fingerprint(),
            "question": self.question,
            "conversation": self.conversation,
            "system": self.system,
            "max_new_tokens": self.max_new_tokens,
            "max_instruction_length": self.max_instruction_length,
            "dtype": choose_dtype(self.dtype, device, self.source.option)[0],
        }

    def load(self, device: torch.device) -> None:
        """Read weights and tokenizer.

        Args:
            device: Where the model runs.

        Raises:
            CheckpointError: They can not be read.
        """
        self._tokenizer = self._load_tokenizer()
        self._tokenizer.padding_side = "left"  # answers begin where prompts end
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._model = self.source.load_model(choose_dtype(self.dtype, device, self.source.option)[1], device)

    @torch.inference_mode()
    def answer(self, instructions: Sequence[str], images: Sequence[Image.Image]) -> list[Answer]:
        """Greedy answers.

        Args:
            instructions: The human's words.
            images: One RGB image for each, for models that see; else empty.

        Returns:
            One answer for each.
        """
        prompts = [self.prompt(instruction) for instruction in instructions]
        inputs = self._encode(prompts, images).to(self._model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        limits = {"max_new_tokens": self.max_new_tokens, "pad_token_id": self._tokenizer.pad_token_id}
        recipe = GenerationConfig(do_sample=False, num_beams=1, **limits)  # type: ignore[no-untyped-call]
        ids: Tensor = self._model.generate(**inputs, generation_config=recipe)  # type: ignore[operator]
        return [self._read(row) for row in ids[:, inputs["input_ids"].shape[1] :].tolist()]

    def prompt(self, instruction: str) -> str:
        """The text that the model reads; the model's own special tokens are taken out of the instruction.

        Args:
            instruction: The human's words.

        Returns:
            The whole conversation up to the answer.
        """
        words = instruction[: self.max_instruction_length].encode("utf-8", "replace").decode()
        for token in self._special_tokens():
            words = words.replace(token, " ")
        question = self.question.replace("{instruction}", words)
        conversation = self.conversation
        if conversation is None:
            if self._template_owner().chat_template:
                return self._fill_template(question)
            conversation = _PLAIN_IMAGE if self.sees else _PLAIN
        return conversation.replace("{image}", self._image_token()).replace("{question}", question)

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer: PreTrainedTokenizerBase = self.source.load_text_part(AutoTokenizer.from_pretrained, "tokenizer")
        return tokenizer

    def _template_owner(self) -> Any:  # noqa: ANN401 - tokenizer or processor
        return self._tokenizer

    def _image_token(self) -> str:
        return ""

    def _special_tokens(self) -> list[str]:
        return sorted(map(str, self._tokenizer.all_special_tokens), key=len, reverse=True)

    def _content(self, question: str) -> Any:  # noqa: ANN401 - what the template wants of the user's turn
        return question

    def _fill_template(self, question: str) -> str:
        messages = [{"role": "user", "content": self._content(question)}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        filled = self._template_owner().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return str(filled)

    def _begins_itself(self, prompts: Sequence[str]) -> bool:
        """Whether the template has written the beginning token, so that the tokenizer must not."""
        bos = self._tokenizer.bos_token
        return bool(bos) and prompts[0].startswith(str(bos))

    def _encode(self, prompts: Sequence[str], images: Sequence[Image.Image]) -> Any:  # noqa: ANN401
        return self._tokenizer(
            list(prompts),
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
            add_special_tokens=not self._begins_itself(prompts),
        )

    def _read(self, ids: list[int]) -> Answer:
        """Text of generated ids up to the end token."""
        known = self._model.generation_config.eos_token_id
        ends = set(known) if isinstance(known, list | tuple) else {known}
        end = next((position for position, index in enumerate(ids) if index in ends), None)
        text = self._tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(str(text), is_finished=end is not None or len(ids) < self.max_new_tokens)


class ImageTextDeriver(TextDeriver):
    """An MLLM that looks at the source image, as MGIE's (arXiv:2309.17102, section 3.1).

    The arguments are those of :class:`TextDeriver`; a ``conversation`` needs ``{image}``, too.
    """

    sees = True
    kind = IMAGE_TEXT
    _processor: Any

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        self._processor = self.source.load_text_part(AutoProcessor.from_pretrained, "processor")
        tokenizer: PreTrainedTokenizerBase | None = getattr(self._processor, "tokenizer", None)
        if tokenizer is None or getattr(self._processor, "image_processor", None) is None:
            raise CheckpointError(
                f"{self.source.option}.model: expected a processor for images and text in {self.source.path}, got a "
                f"{type(self._processor).__name__}; processor_config.json or preprocessor_config.json is missing, so "
                "download the folder again"
            )
        return tokenizer

    def _template_owner(self) -> Any:  # noqa: ANN401
        return self._processor

    def _image_token(self) -> str:
        return str(getattr(self._processor, "image_token", "<image>"))

    def _special_tokens(self) -> list[str]:
        return [self._image_token(), *super()._special_tokens()]

    def _content(self, question: str) -> Any:  # noqa: ANN401
        return [{"type": "image"}, {"type": "text", "text": question}]

    def _encode(self, prompts: Sequence[str], images: Sequence[Image.Image]) -> Any:  # noqa: ANN401
        return self._processor(
            images=list(images),
            text=list(prompts),
            padding=True,
            return_tensors="pt",
            add_special_tokens=not self._begins_itself(prompts),
        )
