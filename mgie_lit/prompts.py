"""The conversation as token ids: prompt, answer, labels, and where the visual tokens stand.

The text is encoded piece by piece (before the image, after the image), so that the image's place and the visual tokens
have known positions and nothing has to be searched for. For LLaMA's tokenizer this gives the ids that ml-mgie trained
on (``vicuna_v1_1``, blanks around added tokens stripped).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from transformers import AutoTokenizer, LlamaTokenizer

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.vocabulary import (
    IGNORE_INDEX,
    IMAGE_END_TOKEN,
    IMAGE_PATCH_TOKEN,
    IMAGE_START_TOKEN,
    IMAGE_TOKENS,
    NUM_VISUAL_TOKENS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

SMALL_TOKENIZER_DIR = Path(__file__).parent / "assets" / "tokenizer"
NO_VISUAL_TOKENS = -1  # in the place of [IMG0]'s position; only with the released code's faults
_SEPARATORS = ("ASSISTANT: ", "</s>")  # where the released code splits a conversation to find the answer


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One training row."""

    input_ids: list[int]  # prompt, expressive instruction, [IMG0..], </s>
    labels: list[int]  # the same ids; IGNORE_INDEX up to and with "ASSISTANT:"
    visual_token_start: int  # position of [IMG0] in input_ids, or NO_VISUAL_TOKENS


class RowBuilder(Protocol):
    """What makes the training rows of a guide; ``data.collate`` pads them."""

    tokenizer: PreTrainedTokenizerBase

    @property
    def needs_expressive(self) -> bool:
        """Whether a row can not be made without an expressive instruction."""
        ...

    def training_row(self, instruction: str, expressive_instruction: str) -> PromptRow:
        """Ids and labels of one example."""
        ...


def visual_tokens(count: int) -> tuple[str, ...]:
    """Names of the first ``count`` visual tokens.

    >>> visual_tokens(2)
    ('[IMG0]', '[IMG1]')
    """
    return tuple(f"[IMG{index}]" for index in range(count))


def add_edit_tokens(tokenizer: PreTrainedTokenizerBase, num_visual_tokens: int = NUM_VISUAL_TOKENS) -> None:
    """Append LLaVA's image tokens and the visual tokens to a tokenizer, in this order, where they are missing."""
    known = tokenizer.get_vocab()
    missing = [token for token in (*IMAGE_TOKENS, *visual_tokens(num_visual_tokens)) if token not in known]
    tokenizer.add_tokens(missing, special_tokens=True)


class EditPrompt:
    """Builds the conversation of one edit.

    Args:
        tokenizer: Holds the image and visual tokens (``add_edit_tokens``); the visual ids follow each other.
        num_image_patches: Vision features per image, the number of ``<im_patch>`` tokens; 0 = the LLM sees no image.
        system: Text before the user's turn; "" = none.
        query: The user's words around ``{instruction}`` (arXiv:2309.17102, section 3.1).
        max_length: Longest row in tokens; the expressive instruction is cut to fit, visual tokens never are.
        image_first: Put the image before the words instead of after them (ml-mgie puts it after).
        num_visual_tokens: How many ``[IMG]`` tokens end an answer, at least 1.
        faults: Which faults of the released code are kept.

    Raises:
        ValueError: A token is missing, the visual ids have gaps, there is none, or the query has no ``{instruction}``.
    """

    needs_expressive: ClassVar[bool] = True

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        num_image_patches: int,
        system: str,
        query: str,
        max_length: int,
        image_first: bool = False,
        num_visual_tokens: int = NUM_VISUAL_TOKENS,
        faults: Faults = NO_FAULTS,
    ) -> None:
        if "{instruction}" not in query:
            raise ValueError(f"query: expected a text with {{instruction}} in it, got {query!r}")
        if num_visual_tokens < 1:
            raise ValueError(f"num_visual_tokens: expected at least 1, got {num_visual_tokens}")
        self.tokenizer = tokenizer
        self.num_image_patches = num_image_patches
        self.system = system
        self.query = query
        self.max_length = max_length
        self.image_first = image_first
        self.faults = faults
        visual = visual_tokens(num_visual_tokens)
        ids = {token: cast("int", tokenizer.convert_tokens_to_ids(token)) for token in (*IMAGE_TOKENS, *visual)}
        missing = [token for token, index in ids.items() if index is None or index == tokenizer.unk_token_id]
        if missing:
            raise ValueError(f"tokenizer: no token {', '.join(missing)}; call add_edit_tokens(tokenizer) first")
        self.image_patch_id: int = ids[IMAGE_PATCH_TOKEN]
        self.image_ids: list[int] = (
            [ids[IMAGE_START_TOKEN], *[self.image_patch_id] * num_image_patches, ids[IMAGE_END_TOKEN]]
            if num_image_patches
            else []
        )
        self.visual_ids: list[int] = [ids[token] for token in visual]
        if self.visual_ids != list(range(self.visual_ids[0], self.visual_ids[0] + num_visual_tokens)):
            raise ValueError(f"tokenizer: expected consecutive ids for {', '.join(visual)}, got {self.visual_ids}")

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text, without beginning and end tokens; special tokens in it are plain words."""
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    @property
    def opening_ids(self) -> list[int]:
        """Ids that every prompt begins with, up to the instruction; at its border tokens may merge.

        With ``image_first`` they hold the image.
        """
        before = self.query.partition("{instruction}")[0].format()
        image_ids = self.image_ids if self.image_first else []
        return [self.tokenizer.bos_token_id, *image_ids, *self.encode(f"{self.system} USER: {before}".lstrip())]

    def prompt_ids(self, instruction: str) -> list[int]:
        """Ids from ``<s>`` to ``ASSISTANT:``, what the MLLM reads before it writes.

        Args:
            instruction: The user's words.

        Returns:
            The prompt, short enough for the visual and end tokens to fit ``max_length`` too.

        Raises:
            ConfigError: The instruction is too long for that.
        """
        prompt = self._prompt(instruction, as_demo=self.faults.demo_tokens)
        if (length := len(prompt) + len(self.visual_ids) + 1) > self.max_length:
            raise ConfigError(
                f"instruction: expected at most {self.max_length} tokens with image and visual tokens, got {length}: "
                f"{instruction[:60]!r}; shorten it, or train with a larger max_length"
            )
        return prompt

    def training_row(self, instruction: str, expressive_instruction: str) -> PromptRow:
        """Ids and labels of a whole conversation.

        Args:
            instruction: The user's words.
            expressive_instruction: What the MLLM is to write; cut to fit ``max_length``.

        Returns:
            The row, at most ``max_length`` ids.

        Raises:
            ConfigError: The instruction alone leaves no room for the visual tokens within ``max_length``.
        """
        prompt = self._prompt(instruction, as_demo=False)
        room = self.max_length - len(prompt) - len(self.visual_ids) - 1
        # blanks before an added token vanish, as in ml-mgie
        written = self.encode(f"ASSISTANT: {expressive_instruction}".rstrip())[len(self.encode("ASSISTANT:")) :]
        if not self.faults.cut_visual_tokens:
            if room < 0:
                self.prompt_ids(instruction)  # says what is too long
            written = written[:room]
        answer = [*written, *self.visual_ids, self.tokenizer.eos_token_id]
        row = PromptRow(
            input_ids=(prompt + answer)[: self.max_length],
            labels=([IGNORE_INDEX] * len(prompt) + answer)[: self.max_length],
            visual_token_start=len(prompt) + len(written),
        )
        texts = (instruction, f"{expressive_instruction} ")  # a blank comes before [IMG0]
        is_odd = self.faults.ignore_odd_texts and any(part in text for part in _SEPARATORS for text in texts)
        if is_odd:
            row = replace(row, labels=[IGNORE_INDEX] * len(row.labels))
        if is_odd or row.visual_token_start >= self.max_length:  # the released code looks for [IMG0] in the labels
            row = replace(row, visual_token_start=NO_VISUAL_TOKENS)
        return row

    def _prompt(self, instruction: str, *, as_demo: bool) -> list[int]:
        """Ids from ``<s>`` to ``ASSISTANT:``; the released demo's tokenizer keeps the blanks around the image."""
        words = f"{self.system} USER: {self.query.format(instruction=instruction)}".lstrip()
        before = self.encode(f"{words}\n" if as_demo else words)
        marker = self.encode("  ASSISTANT:" if as_demo else "ASSISTANT:")
        parts = [self.image_ids, before] if self.image_first else [before, self.image_ids]
        return [self.tokenizer.bos_token_id, *parts[0], *parts[1], *marker]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids up to the first visual or end token, without special tokens."""
        stops = {self.visual_ids[0], self.tokenizer.eos_token_id}
        end = next((position for position, index in enumerate(ids) if index in stops), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True)).strip()


def load_tokenizer(source: str, num_visual_tokens: int = NUM_VISUAL_TOKENS) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id, or ``small`` from the package, with image and visual tokens added.

    Args:
        source: ``small``, a folder with tokenizer files or a sub-folder ``tokenizer`` of them, or a hub id.
        num_visual_tokens: ``[IMG]`` tokens that it has afterwards, if it had no more before.

    Returns:
        The tokenizer with a padding token: its own, or ``<unk>``.

    Raises:
        CheckpointError: No tokenizer can be read there.
    """
    inside = Path(source) / "tokenizer"  # an export keeps it there
    folder = SMALL_TOKENIZER_DIR if source == "small" else (inside if inside.is_dir() else source)
    # transformers 5 takes `"model_type": "llava"` beside it for another tokeniser, which loses the first blank
    is_bare = (Path(folder) / "tokenizer.model").is_file() and not (Path(folder) / "tokenizer.json").is_file()
    try:
        kind: Any = LlamaTokenizer if is_bare else AutoTokenizer
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"size.tokenizer.source: expected a folder or hub id with a tokenizer, got {source}: {error}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token  # LLaMA has none; ml-mgie pads with <unk>
    add_edit_tokens(tokenizer, num_visual_tokens)
    return tokenizer


def load_text_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a text encoder.

    Args:
        source: ``small`` (from the package), a diffusers pipeline folder with ``tokenizer/``, a folder with tokenizer
            files, or a hub id.

    Returns:
        The tokenizer with a padding token: its own, or the end token.

    Raises:
        CheckpointError: No tokenizer can be read there.
    """
    folder = SMALL_TOKENIZER_DIR if source == "small" else Path(source)
    if (folder / "tokenizer").is_dir():
        folder = folder / "tokenizer"
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"size.text_tokenizer.source: expected a folder or hub id with a tokenizer, got {source}: {error}"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # as CLIP's
    return tokenizer
