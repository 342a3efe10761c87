"""A griffe extension: doctests of docstrings become code blocks, wherever in a docstring they stand."""

from __future__ import annotations

import re

import griffe

# from a prompt to the next blank line
_DOCTEST = re.compile(r"^([ \t]*)>>> .*(?:\n(?![ \t]*$).*)*", re.MULTILINE)


class DoctestBlocks(griffe.Extension):
    """Puts each doctest between fences."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
