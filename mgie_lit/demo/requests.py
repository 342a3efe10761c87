"""What a user asks for, and what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError
from mgie_lit.sampling.presets import PRESETS, Preset

if TYPE_CHECKING:
    from pathlib import Path

    from mgie_lit.demo.limits import Limits

LARGEST_SEED = 2**32 - 1  # larger ones would lose digits on their way through a browser
LARGEST_SCALE = 30.0  # of either guidance


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One edit to make."""

    source: Path  # a picture in the demo's own folder
    instruction: str
    model: str  # one of the shelf's names
    seed: int = 0
    preset: Preset = "plain"
    steps: int | None = None  # None, here and below = the preset's
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit that was made."""

    request: EditRequest
    edited: Path  # a PNG file in the demo's own folder
    expressive_instruction: str
    seconds: float  # that the model took


def check_request(request: EditRequest, limits: Limits) -> None:
    """Refuse what can not or must not be made.

    Args:
        request: As it came in; its source has been looked at already.
        limits: Of this demo.

    Raises:
        ConfigError: Something is out of its range; the message names every such value.
    """
    length = len(request.instruction)
    faults = []
    if not request.instruction.strip():
        faults.append("Instruction: expected words, got an empty text; write what to change")
    elif length > limits.characters:
        faults.append(f"Instruction: expected at most {limits.characters} characters, got {length}; shorten it")
    ranges: list[tuple[str, float | None, float, float]] = [
        ("Seed", request.seed, 0, LARGEST_SEED),
        ("Steps", request.steps, 1, limits.steps),
        ("Guidance by the instruction", request.guidance_scale, 0, LARGEST_SCALE),
        ("Guidance by the picture", request.image_guidance_scale, 0, LARGEST_SCALE),
    ]
    faults += [
        f"{name}: expected a number from {least:g} to {most:.10g}, got {value}"
        for name, value, least, most in ranges
        if value is not None and not least <= value <= most
    ]
    if request.preset not in PRESETS:
        faults.append(f"Preset: expected one of {', '.join(PRESETS)}, got {request.preset!r}")
    if faults:
        raise ConfigError("\n".join(faults))


def whole_number(name: str, value: object) -> int:
    """A whole number out of a form or a message.

    Args:
        name: Of the field, for the message.
        value: Whatever came in.

    Returns:
        The number.

    Raises:
        ConfigError: It is none.
    """
    number = real_number(name, value)
    if number != math.floor(number):
        raise ConfigError(f"{name}: expected a whole number, got {value}")
    return int(number)


def real_number(name: str, value: object) -> float:
    """A finite number out of a form or a message.

    Args:
        name: Of the field, for the message.
        value: Whatever came in.

    Returns:
        The number.

    Raises:
        ConfigError: It is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ConfigError(f"{name}: expected a number, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as typed: numbers with commas or spaces between.

    >>> parse_seeds("0, 7 12")
    (0, 7, 12)

    Args:
        text: What was typed.

    Returns:
        The seeds in order, each once.

    Raises:
        ConfigError: There is none, or something else than a number.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdecimal() for word in words):
        raise ConfigError(f"Seeds: expected whole numbers with commas between, such as 0, 1, 2, got {text!r}")
    return tuple(dict.fromkeys(int(word) for word in words))
