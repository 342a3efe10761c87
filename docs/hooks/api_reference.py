"""A page for each package of `mgie_lit`, for mkdocstrings to fill."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "mgie_lit"
NOT_CALLED = ("cli",)  # commands, which have a page of their own
_BARE = "    options: {show_root_heading: false, show_root_toc_entry: false, members: false}\n"


def pages() -> dict[str, str]:
    """The pages by their file names.

    Returns:
        Markdown with a directive for each module.
    """
    made: dict[str, str] = {}
    for init in sorted(PACKAGE.rglob("__init__.py")):
        parts = init.parent.relative_to(PACKAGE).parts
        modules = [path.stem for path in sorted(init.parent.glob("*.py")) if not path.stem.startswith("_")]
        if parts[:1] in {(name,) for name in NOT_CALLED}:
            continue
        name = ".".join((PACKAGE.name, *parts))
        own = f"::: {name}\n" + ("" if _defines_something(init) else _BARE)
        made[f"{name}.md"] = "\n".join([f"# {name}\n", own, *(f"::: {name}.{module}\n" for module in modules)])
    return made


def _defines_something(init: Path) -> bool:
    return any(line.startswith(("class ", "def ")) for line in init.read_text(encoding="utf-8").splitlines())
