r"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, nothing from elsewhere.

``$...$`` and ``$$...$$`` reach this hook as elements that hold ``\(...\)`` and ``\[...\]`` (`pymdownx.arithmatex`).
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_SIZED_BAR = re.compile(r"\\[bB]igg?[lr]?(?=\\[lr]?[vV]ert)")  # the converter knows bars, but not of a given size


def on_page_content(content: str, **_: object) -> str:
    """Draw the formulas of a page."""

    def drawn(match: re.Match[str]) -> str:
        tag, latex = match.groups()
        return formula(html.unescape(latex).strip(), is_block=tag == "div")

    return _FORMULA.sub(drawn, content)


def formula(latex: str, *, is_block: bool) -> str:
    """A formula as HTML.

    Args:
        latex: Without the signs around it.
        is_block: Whether it has a line of its own, which then scrolls by itself on a phone.

    Returns:
        A ``math`` element, in a box if it is a block.

    Raises:
        PluginError: Something in it is not known to the converter.
    """
    element = convert(_SIZED_BAR.sub("", latex), display="block" if is_block else "inline")
    if "\\" in element:
        raise PluginError(f"formula: expected LaTeX that latex2mathml knows, got {latex}, of which it makes {element}")
    return f'<div class="formula">{element}</div>' if is_block else element
