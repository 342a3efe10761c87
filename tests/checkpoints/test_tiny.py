"""What is said of the weights that ship."""

from __future__ import annotations

from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.checkpoints.tiny import TINY_EDITS, TINY_NOTE
from mgie_lit.cli.edit import EXAMPLES
from mgie_lit.data.photo_edits.operations import GLOBAL_OPERATIONS


def test_it_knows_the_edits_that_it_was_trained_on() -> None:
    assert tuple(GLOBAL_OPERATIONS) == TINY_EDITS
    assert "It has learnt ten global photo edits" in (TINY_DIR / "README.md").read_text(encoding="utf-8")


def test_help_of_edit_says_so() -> None:
    assert " ".join(EXAMPLES.split()).startswith(TINY_NOTE)
