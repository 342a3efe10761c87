"""A card's file: written where there is none, renewed while nobody has edited it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

CARD_FILE = "README.md"
_SEAL = re.compile(r"\n<!-- mgie_lit: ([0-9a-f]{64}); an edited card is never replaced -->\n*\Z")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)


def sealed(text: str) -> str:
    """A card with the hash of its text, by which an edit is known."""
    body = text.rstrip("\n") + "\n"
    return f"{body}\n<!-- mgie_lit: {_digest(body)}; an edited card is never replaced -->\n"


def is_edited(text: str) -> bool:
    """Whether a card is another one than was written: somebody's own, or changed by hand."""
    seal = _SEAL.search(text)
    return seal is None or _digest(text[: seal.start()]) != seal[1]


def write_card(folder: Path, text: str) -> bool:
    """Write the card of an export.

    Args:
        folder: Of the export.
        text: From ``sealed``, or a card that is handed on.

    Returns:
        False where a card was there that somebody had edited: it stays as it is.
    """
    file = folder / CARD_FILE
    if file.exists() and is_edited(file.read_text(encoding="utf-8", errors="replace")):
        return False
    file.write_text(text, encoding="utf-8")
    return True


def read_card(folder: Path) -> str | None:
    """Text of a folder's card; None where there is none that can be read."""
    try:
        return (folder / CARD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def front_matter(folder: Path) -> dict[str, Any]:
    """The YAML at the head of a folder's card; empty where there is none."""
    found = _FRONT_MATTER.match(read_card(folder) or "")
    try:
        content = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
