"""Licences of all packages that `mgie_lit` and its extras bring along, as their own metadata name them.

``make licences`` prints the page.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement

PROJECT = "mgie-lit"
CORE = "always"
_HEAD = "| package | version | licence | needed by |\n| --- | --- | --- | --- |"
_OSI = "License :: OSI Approved"
_LONGEST = 60  # characters; a longer field is the text of a licence and not its name
_COPYLEFT = re.compile(r"\b(?:[AL]?GPL|MPL|EUPL|EPL|CDDL|OSL|SSPL|GNU|Mozilla|Eclipse)(?!\w*[a-z]{3})")
_COPYLEFT_NOTE = """
## Copyleft

These ask something of who changes them or hands them on. MPL-2.0 asks for the source of changed files *of the
package*; it says nothing of programs that use it. Of several licences that a package names, some hold for single
files, others can be chosen from: its own files say which. None of them is copied into `mgie_lit`, which only
imports them.
"""
_BUNDLED_NOTE = """
## What the metadata do not say

Wheels can hold compiled libraries of others under their own licences, which lie beside the package's files
(OpenBLAS and GCC's runtime in those of NumPy and SciPy, image libraries in Pillow's). PyPI's PyTorch for Linux
brings NVIDIA's CUDA libraries (`nvidia-*`) under NVIDIA's terms, which are not free software's; PyTorch's CPU
wheels have none.
"""
_PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def page() -> str:
    """Markdown with a table of packages.

    Returns:
        A row a package that is installed here, and a list of those that are not.
    """
    reasons = needed()
    rows, absent, copyleft = [], [], []
    for name in sorted(reasons):
        try:
            package = distribution(name)
        except PackageNotFoundError:
            absent.append(name)
            continue
        row = f"| {package.name} | {package.version} | {licence(package)} | {', '.join(sorted(reasons[name]))} |"
        rows.append(row)
        if is_copyleft(licence(package)):
            copyleft.append(row)
    parts = [
        "# Licences\n",
        "Of every package that an installation brings along, directly or not, as the packages' own metadata name them "
        "where this page was built. *Needed by* is `always`, or the extras that bring it. `mgie_lit` itself is "
        "under Apache-2.0; weights and data have terms of their own ([models](../models.md#what-there-is), "
        "[data sets](../datasets.md)).\n",
        _HEAD,
        *rows,
        _COPYLEFT_NOTE,
        *([_HEAD, *copyleft] if copyleft else ["None."]),
        _BUNDLED_NOTE,
    ]
    if absent:
        parts.append(f"\nNot installed where this page was built: {', '.join(absent)}.")
    return "\n".join(parts) + "\n"


def needed() -> dict[str, set[str]]:
    """All packages that an installation needs on this platform.

    Returns:
        For each, in normal spelling, why: `CORE`, or names of extras.
    """
    reasons: dict[str, set[str]] = {}
    for extra in ["", *_project()["optional-dependencies"]]:
        seen: set[tuple[str, str]] = set()
        _follow(PROJECT, extra, seen)
        for name, _ in seen - {(PROJECT, extra)}:
            reasons.setdefault(name, set()).add(extra or CORE)
    return {name: {CORE} if CORE in why else why for name, why in reasons.items() if name != PROJECT}


def licence(package: Distribution) -> str:
    """The licence that a package's metadata name: an SPDX expression, a classifier, or the old free field."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    names = [line.rpartition(" :: ")[2] for line in classifiers if line != _OSI]
    if names:
        return ", ".join(names)
    field = str(metadata.get("License") or "").strip()
    first = next((line.strip() for line in field.splitlines() if line.strip()), "")
    return first if first and len(first) <= _LONGEST else "see its files"


def is_copyleft(name: str) -> bool:
    """Whether a licence, or one of several, is of a kind that asks for the source of what is changed."""
    return _COPYLEFT.search(name) is not None


def _project() -> dict[str, Any]:
    """The project itself: the checkout's file knows its requirements, the metadata of an older installation may not."""
    project: dict[str, Any] = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
    return project


def _own_requirements() -> list[str]:
    project = _project()
    extras = project["optional-dependencies"].items()
    return project["dependencies"] + [f'{one}; extra == "{extra}"' for extra, needs in extras for one in needs]


def _follow(name: str, extra: str, seen: set[tuple[str, str]]) -> None:
    if (name, extra) in seen:
        return
    seen.add((name, extra))
    try:
        requires = _own_requirements() if name == PROJECT else distribution(name).requires or []
    except PackageNotFoundError:
        return
    environment = {**default_environment(), "extra": extra}
    for requirement in map(Requirement, requires):
        is_asked = requirement.marker is None or requirement.marker.evaluate(environment)
        # an extra's own requirements are those that its marker brings, without the ones that are needed anyway
        if is_asked and (not extra or (requirement.marker is not None and "extra" in str(requirement.marker))):
            normal = re.sub(r"[-_.]+", "-", requirement.name).lower()
            for one in ["", *requirement.extras]:
                _follow(normal, one, seen)


if __name__ == "__main__":
    print(page())
