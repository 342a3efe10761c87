"""What was typed for a run or an evaluation, as a card may show it: without where on a machine things were."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

OVERRIDES_FILE = "overrides"
_FOLDERS = re.compile(r"(?<![\w.])(?:~|\.{0,2})?/(?:[^\s,\]]*/)?(?=[^\s,/\]]+)")  # all of a path but its last name


def overrides_of(folder: Path) -> list[str] | None:
    """Overrides that a run or evaluation records of itself.

    Args:
        folder: Its directory.

    Returns:
        As typed, but of absolute paths the last name alone and without its own directory; None where none are recorded.
    """
    try:
        content = yaml.safe_load((folder / OVERRIDES_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(content, list):
        return None
    return [_FOLDERS.sub(".../", str(one)) for one in content if not str(one).startswith("paths.")]
