"""Licences of all packages that `mgie_lit` and its extras bring along, as their own metadata name them.

``python docs/hooks/licences.py`` prints the page.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement

PROJECT = "mgie-lit"
CORE = "always"
_OSI = "License :: OSI Approved"
_LONGEST = 60  # characters; a longer field is the text of a licence and not its name


def page() -> str:
    """Markdown with a table of packages.

    Returns:
        A row a package that is installed here, and a list of those that are not.
    """
    reasons = needed()
    rows, absent = [], []
    for name in sorted(reasons):
        try:
            package = distribution(name)
        except PackageNotFoundError:
            absent.append(name)
            continue
        rows.append(f"| {package.name} | {package.version} | {licence(package)} | {', '.join(sorted(reasons[name]))} |")
    parts = [
        "# Licences\n",
        "Of every package that an installation brings along, directly or not, as the packages' own metadata name them "
        "where this page was built. *Needed by* is `always`, or the extras that bring it. `mgie_lit` itself is "
        "under Apache-2.0; weights and data have terms of their own ([models](../models.md#what-there-is), "
        "[data sets](../datasets.md)).\n",
        "| package | version | licence | needed by |\n| --- | --- | --- | --- |",
        *rows,
    ]
    if absent:
        parts.append(f"\nNot installed where this page was built: {', '.join(absent)}.")
    return "\n".join(parts) + "\n"


def needed() -> dict[str, set[str]]:
    """All packages that an installation needs on this platform.

    Returns:
        For each, in normal spelling, why: `CORE`, or names of extras.
    """
    extras = [str(extra) for extra in distribution(PROJECT).metadata.get_all("Provides-Extra") or []]
    reasons: dict[str, set[str]] = {}
    for extra in ["", *extras]:
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


def _follow(name: str, extra: str, seen: set[tuple[str, str]]) -> None:
    if (name, extra) in seen:
        return
    seen.add((name, extra))
    try:
        requires = distribution(name).requires or []
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
