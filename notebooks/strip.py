"""Notebooks without outputs, counts and traces of one machine.

`make format` strips them, `make check` looks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stripped(text: str) -> str:
    """A notebook's file as it is stored, without what one run left in it.

    Args:
        text: Content of an ``.ipynb`` file.

    Returns:
        The file's new content.
    """
    notebook: dict[str, Any] = json.loads(text)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["outputs"] = []
            cell["execution_count"] = None
    notebook["metadata"] = METADATA
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Strip the notebooks beside this file; ``--check`` names those that are not.

    Args:
        arguments: Of the command line.

    Returns:
        The exit status.
    """
    changed = 0
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        after = stripped(before)
        if after == before:
            continue
        changed += 1
        if "--check" in arguments:
            print(f"{path}: expected a notebook without outputs and counts, got some;")
            print("  run `make format`")
        else:
            path.write_text(after, encoding="utf-8")
            print(f"{path}: stripped")
    return int("--check" in arguments and changed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
