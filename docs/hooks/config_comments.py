"""Keys of a YAML file with the comments that stand beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")
_PACKAGE = "@package"


@dataclass(frozen=True)
class Key:
    """A key, or a comment on a line of its own.

    Attributes:
        name: Dotted path; empty for a comment on a line of its own, which heads the keys that follow.
        value: As it is written in the file; empty for a key that only holds others.
        comment: What stands behind it, without the mark.
    """

    name: str
    value: str
    comment: str


def read_parts(text: str) -> tuple[str, list[Key]]:
    """What stands at the head of a config file, and what the file is composed of.

    Args:
        text: The file.

    Returns:
        The comment before the first key, without Hydra's ``@package``; the entries of the defaults list with their
        comments, written as a user would choose them (``size=tiny``).
    """
    head = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if _PACKAGE not in line:
            head.append(line.removeprefix("#").strip())
    root, lines = yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines()
    parts = []
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        for entry in value.value if key.value == "defaults" else ():
            nodes = [node for pair in entry.value for node in pair] if entry.id == "mapping" else [entry]
            name = "=".join(node.value for node in nodes)
            if name != "_self_":
                parts.append(Key(name, "", "" if value.flow_style else _behind(lines, nodes[-1])))
    return "\n".join(head), parts


def read_keys(text: str) -> list[Key]:
    """All keys of a config file in their order, and the comments that head some of them.

    Args:
        text: The file.

    Returns:
        The keys without those of the defaults list.
    """
    root, lines = yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines()
    if not isinstance(root, yaml.MappingNode):
        return []
    found = dict(_walk(root, "", text, lines))
    first = min(found, default=0)
    for number, line in enumerate(lines):
        if number > first and line.lstrip().startswith("#"):
            found.setdefault(number, Key("", "", line.lstrip("# ").rstrip()))
    return [found[number] for number in sorted(found)]


def _walk(mapping: yaml.MappingNode, prefix: str, text: str, lines: list[str]) -> Iterator[tuple[float, Key]]:
    for count, (key, value) in enumerate(mapping.value):
        name = f"{prefix}{key.value}"
        if name == "defaults":
            continue
        place = key.start_mark.line + count / 1000  # several keys may share a line
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            comment = _behind(lines, key)
            if comment:
                yield place, Key(name, "", comment)
            yield from _walk(value, f"{name}.", text, lines)
        else:
            is_block = value.start_mark.line != key.start_mark.line or text[value.start_mark.index :][:1] in {">", "|"}
            yield place, Key(name, _written(value, text), _behind(lines, key if is_block else value))


def _written(node: yaml.Node, text: str) -> str:
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return f"[{', '.join(_written(one, text) for one in node.value)}]"
    if isinstance(node, yaml.ScalarNode) and node.style in {">", "|"}:
        return str(node.value).strip()
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())


def _behind(lines: list[str], node: yaml.Node) -> str:
    """The comment on the line where a node ends."""
    line, column = node.end_mark.line, node.end_mark.column
    if line >= len(lines) or (column == 0 and line > node.start_mark.line):  # a block ends where the next thing begins
        line, column = node.start_mark.line, node.start_mark.column
    match = _COMMENT.search(lines[line][column:])
    return match[1].strip() if match else ""
