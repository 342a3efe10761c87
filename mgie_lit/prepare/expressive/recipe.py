"""From an instruction to a row: who is asked, what is kept, what is noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.cleaning import Cleaning
from mgie_lit.prepare.expressive.flags import CUT_INSTRUCTION, EMPTY, EMPTY_SUMMARY, UNFINISHED, FlagRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.prepare.expressive.derivers import Answer, Deriver
    from mgie_lit.prepare.expressive.requests import Requests
    from mgie_lit.prepare.expressive.summariser import Summariser

STAND_INS = ("instruction", "nothing")  # values of expressive.on_empty
_FORMAT = 1  # of rows and rules; raise it when the same settings give other words


@dataclass(frozen=True)
class Recipe:
    """From an instruction to a row.

    Args:
        deriver: Who is asked.
        summariser: Who shortens; None = the cleaned answer is taken as it is.
        cleaning: What is kept of an answer.
        flags: What is noted of it.
        on_empty: What stands in for an answer with nothing in it: ``instruction``, the human's words, or ``nothing``.
        batch_size: Examples asked about together, at least 1.
        sort: Ask about instructions of like length together.

    Raises:
        ConfigError: A value can not be used.
    """

    deriver: Deriver
    summariser: Summariser | None = None
    cleaning: Cleaning = field(default_factory=Cleaning)
    flags: FlagRules = field(default_factory=FlagRules)
    on_empty: str = "instruction"
    batch_size: int = 16
    sort: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"expressive.batch_size: expected at least 1, got {self.batch_size}")
        if self.on_empty not in STAND_INS:
            raise ConfigError(f"expressive.on_empty: expected {' or '.join(STAND_INS)}, got {self.on_empty}")

    def check(self) -> None:
        """Look at the models' folders.

        Raises:
            ConfigError: One can not be what it has to be.
        """
        self.deriver.check()
        if self.summariser is not None:
            self.summariser.check()

    def load(self, device: torch.device) -> None:
        """Read the models' weights."""
        self.deriver.load(device)
        if self.summariser is not None:
            self.summariser.load(device)

    def settings(self, requests: Requests, device: torch.device) -> dict[str, Any]:
        """All that decides over the words."""
        return {
            "format": _FORMAT,
            "data": {"num_rows": len(requests), "ids_and_instructions": requests.fingerprint()},
            "deriver": self.deriver.settings(device),
            "summariser": None if self.summariser is None else self.summariser.settings(device),
            "cleaning": {
                "after": list(self.cleaning.after),
                "until": list(self.cleaning.until),
                "num_sentences": self.cleaning.num_sentences,
            },
            "flags": {"max_words": self.flags.max_words, "refusals": list(self.flags.refusals)},
            "on_empty": self.on_empty,
            "batch_size": self.batch_size,
            "sort": self.sort,
        }

    def rows(self, requests: Requests, positions: Sequence[int], settings_hash: str) -> list[dict[str, Any]]:
        """Ask about a batch.

        Args:
            requests: What is asked.
            positions: Of the batch.
            settings_hash: Noted in every row.

        Returns:
            A row for each.

        Raises:
            ConfigError: The device has not enough memory.
            DataError: A source image can not be opened.
        """
        images = [requests.source(position) for position in positions] if self.deriver.sees else []
        instructions = [requests.instructions[position] for position in positions]
        try:
            answers = self.deriver.answer(instructions, images)
            cleaned = [self.cleaning(answer.text) for answer in answers]
            shortened = cleaned if self.summariser is None else self.summariser.summarise(cleaned)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"expressive.batch_size: expected a batch that fits the device's memory, got {self.batch_size}; lower "
                "it (a new batch size begins a new file), or give the models a smaller dtype"
            ) from error
        return [
            {
                "id": requests.ids[position],
                "split": requests.splits[position],
                "instruction": requests.instructions[position],
                "answer": answer.text,
                "cleaned": paragraph,
                **self._judged(requests.instructions[position], answer, paragraph, text),
                "settings": settings_hash,
            }
            for position, answer, paragraph, text in zip(positions, answers, cleaned, shortened, strict=True)
        ]

    def _judged(self, instruction: str, answer: Answer, cleaned: str, text: str) -> dict[str, Any]:
        """The expressive instruction and its flags."""
        limit = getattr(self.deriver, "max_instruction_length", len(instruction))
        found = {
            EMPTY: not cleaned,
            EMPTY_SUMMARY: bool(cleaned) and not text,
            UNFINISHED: not answer.is_finished,
            CUT_INSTRUCTION: len(instruction) > limit,
        }
        flags = [flag for flag, is_so in found.items() if is_so]
        text = text or cleaned
        if text:
            flags += self.flags(text, instruction=instruction, sentences=self.cleaning.sentences(answer.text))
        elif self.on_empty == "instruction":
            text = instruction
        return {"expressive_instruction": text, "flags": flags}
