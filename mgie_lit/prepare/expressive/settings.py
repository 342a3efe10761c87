"""What the words of a file depend on, and its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_HASH_LENGTH = 16  # hex digits in every row
_NAMES_SHOWN = 8
_ABSENT = "nothing"


@dataclass(frozen=True)
class Settings:
    """Settings of a run, and where it ran.

    Args:
        content: All that decides over the words; plain values.
        environment: What a run should tell but may change between two of its parts: versions, folders, device.
    """

    content: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 of the content."""
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]

    def to_json(self) -> str:
        """Both parts and the hash as readable JSON."""
        record = {"hash": self.hash, "settings": dict(self.content), "environment": dict(self.environment)}
        return json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"


def read_settings(path: Path) -> Settings:
    """Settings that a run has recorded.

    Args:
        path: Written from ``Settings.to_json``.

    Returns:
        The settings.

    Raises:
        DataError: The file can not be read.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Settings(record["settings"], record["environment"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected the settings of a run of `mgie prepare expressive`, can not read them ({error}); remove "
            "the folder to begin anew"
        ) from error


def require_same(before: Settings, now: Settings, where: Path) -> None:
    """Stop a run that would go on with other settings than it began with.

    Args:
        before: Of the run that began.
        now: Of the run that would go on.
        where: Folder of the unfinished run.

    Raises:
        ConfigError: They differ; the message has a line for each difference.
    """
    differences = list(differing(before.content, now.content))
    if not differences:
        return
    shown = [f"{name}: {old} before, {new} now" for name, old, new in differences[:_NAMES_SHOWN]]
    more = [f"and {len(differences) - _NAMES_SHOWN} more"] if len(differences) > _NAMES_SHOWN else []
    raise ConfigError(
        "\n".join(
            [
                f"expressive.path: expected the settings that {where} was begun with, got others; set these back, give "
                "another expressive.path, or remove that folder to begin anew:",
                *shown,
                *more,
            ]
        )
    )


def differing(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Values in which two nested mappings differ.

    Args:
        before: One mapping.
        now: The other.
        prefix: Dotted key of both.

    Yields:
        Dotted key, value before, value now; long values are shortened.

    >>> list(differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}))
    [('a.c', '2', '3')]
    """
    for key in sorted({*before, *now}):
        old, new = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differing(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", _short(old), _short(new)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:24]}...{text[-24:]}"
