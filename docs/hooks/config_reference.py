"""The config tree as tables: keys, defaults, and what the comments of the files say of units and sources.

Where a key has no comment and belongs to a class or function of `mgie_lit`, its docstring speaks.
"""

from __future__ import annotations

import html
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import griffe
from config_comments import Key, read_keys, read_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONF = Path(__file__).resolve().parents[2] / "conf"
PRIMARIES = {"train": "mgie train", "eval": "mgie eval", "prepare": "mgie prepare"}
HIDDEN = "hydra"  # how Hydra itself is set up: nothing to choose
TARGET = "_target_"
READER = "reader"  # how a data set's class gets the values of the other keys
DOCS = CONF.parent / "docs"
_PAGE = re.compile(r"\bdocs/([\w/]+\.md)(#[\w-]+)?")
_COMMAND = re.compile(r"^mgie \w+ .*$", re.MULTILINE)


def pages() -> dict[str, str]:
    """The pages by their file names.

    Returns:
        ``index.md`` with the primary configs, and a page for each group.
    """
    options: dict[str, list[Path]] = {}
    for path in sorted(CONF.rglob("*.yaml")):
        group = path.parent.relative_to(CONF).as_posix()
        if group != "." and group.split("/")[0] != HIDDEN:
            options.setdefault(group, []).append(path)
    made = {_file_name(group): _group_page(group, paths) for group, paths in options.items()}
    return {"index.md": _index(options), **made}


def _index(options: dict[str, list[Path]]) -> str:
    lines = [
        "# Configuration\n",
        "A command composes its *primary config* (`conf/train.yaml`, ...) and one option of each *group*, a folder of "
        "`conf/`. `group=option` chooses another option, `key=value` changes a value, and what comes later wins. "
        "`mgie train --cfg job` prints what a command line composes to.\n",
        "| group | options |\n| --- | --- |",
        *(
            f"| [`{group}`]({_file_name(group)}) | {' '.join(f'`{path.stem}`' for path in paths)} |"
            for group, paths in options.items()
        ),
        "",
    ]
    for name, command in PRIMARIES.items():
        lines += [f"## {name}.yaml\n", f"Of `{command}`.\n", *_described(CONF / f"{name}.yaml")]
    return "\n".join(lines)


def _group_page(group: str, paths: list[Path]) -> str:
    lines = [f"# {group}\n"]
    for path in paths:
        lines += [f"## {group}={path.stem}\n", *_described(path)]
    return "\n".join(lines)


def _file_name(group: str) -> str:
    return group.replace("/", "-") + ".md"


def _described(path: Path) -> Iterator[str]:
    """What one file says: its head, what it is composed of, its keys."""
    text = path.read_text(encoding="utf-8")
    head, parts = read_parts(text)
    yield from (f"```bash\n{command}\n```\n" for command in _COMMAND.findall(head))
    if words := _COMMAND.sub("", head).strip():
        yield f"{_linked(words)}\n"
    if parts:
        named = [f"`{part.name}`" + (f" ({_linked(part.comment)})" if part.comment else "") for part in parts]
        yield f"Composed of {', '.join(named)}.\n"
    yield from _table(read_keys(text))


def _table(keys: list[Key]) -> Iterator[str]:
    if not keys:
        return
    targets = {key.name.rpartition(".")[0]: key.value for key in keys if key.name.rpartition(".")[2] == TARGET}
    yield '<div class="stacked" markdown>\n'
    yield "| key | value | |\n| --- | --- | --- |"
    for key in in_order_of_use(keys):
        parent, _, last = key.name.rpartition(".")
        if not key.name:
            yield f"| **{_linked(key.comment)}** | | |"
            continue
        value = _target_link(key.value) if last == TARGET else _code(key.value)
        yield f"| {_code(key.name)} | {value} | {_linked(key.comment) or _docstring(targets.get(parent, ''), last)} |"
    yield "\n</div>\n"


def in_order_of_use(keys: Iterable[Key]) -> list[Key]:
    """What is chosen by hand before what connects it with classes.

    Args:
        keys: Of a file, in its order.

    Returns:
        The same; below each heading keys of `READER` come last, and of keys side by side those like ``_target_``.
    """
    ordered: list[Key] = []
    for is_heading, section in groupby(keys, key=lambda key: not key.name):
        rows = list(section)
        if not is_heading:
            parents = groupby(rows, key=lambda key: key.name.rpartition(".")[0])
            rows = [key for _, own in parents for key in sorted(own, key=lambda one: _last(one).startswith("_"))]
            rows.sort(key=lambda key: key.name.split(".")[0] == READER)
        ordered += rows
    return ordered


def _last(key: Key) -> str:
    return key.name.rpartition(".")[2]


def _target_link(target: str) -> str:
    is_ours = target.startswith("mgie_lit.") and _object(target) is not None
    return f"[`{target}`][{target}]" if is_ours else _code(target)


def _code(text: str) -> str:
    return f"`{text.replace('|', '&#124;')}`" if text else ""


def _linked(comment: str) -> str:
    """A comment as Markdown of a table's cell."""
    parts = re.split(r"(`[^`]+`)", comment)
    escaped = [
        part if part.startswith("`") else re.sub(r"([*_|<\[])", lambda m: f"&#{ord(m.group())};", part)
        for part in parts
    ]

    def link(match: re.Match[str]) -> str:
        return f"[{_title(match[1])}](../../{match[1]}{match[2] or ''})"

    return _PAGE.sub(link, "".join(escaped)).replace("\n", " ")


@cache
def _title(page: str) -> str:
    """The heading of a page of ``docs/``."""
    return (DOCS / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


@cache
def _package() -> griffe.Object | griffe.Alias:
    return griffe.load("mgie_lit", docstring_parser="google")


def _object(target: str) -> griffe.Object | griffe.Alias | None:
    try:
        found: griffe.Object | griffe.Alias = _package()[target.removeprefix("mgie_lit.")]
    except KeyError:
        return None
    return found


def _docstring(target: str, parameter: str) -> str:
    """What the docstring of a target says of a parameter; empty where it says nothing."""
    found = _object(target) if target.startswith("mgie_lit.") else None
    for one in (found, found.members.get("__init__") if found is not None and found.is_class else None):
        if one is None or one.docstring is None:
            continue
        for section in one.docstring.parse("google", warnings=False):
            values: Iterable[object] = section.value if section.kind.value in {"parameters", "attributes"} else ()
            for value in values:
                if getattr(value, "name", "") == parameter:
                    words = " ".join(str(getattr(value, "description", "")).split())
                    return html.escape(words, quote=False).replace("|", "&#124;")
    return ""
