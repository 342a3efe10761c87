r"""Formulas as MathML, which browsers draw by themselves: no script, no fonts, nothing from elsewhere.

``$...$`` and ``$$...$$`` reach this hook as elements that hold ``\(...\)`` and ``\[...\]`` (`pymdownx.arithmatex`).
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Draw the formulas of a page."""

    def drawn(match: re.Match[str]) -> str:
        tag, latex = match.groups()
        latex = html.unescape(latex).strip()
        if tag == "span":
            return convert(latex)
        return f'<div class="formula">{convert(latex, display="block")}</div>'  # which scrolls by itself on a phone

    return _FORMULA.sub(drawn, content)
