"""Requests: enough of them, and a fifth never trained on."""

from __future__ import annotations

import pytest

from mgie_lit.data.photo_edits.families import FAMILIES
from mgie_lit.data.photo_edits.wordings import BASE_WORDINGS, FRAMES, requests

OPERATIONS = [operation for family in FAMILIES.values() for operation in family.operations]


def test_every_operation_has_words_and_the_reverse() -> None:
    assert sorted(BASE_WORDINGS) == sorted(OPERATIONS)
    assert all(len(bases) >= 6 for bases in BASE_WORDINGS.values())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_new_requests_are_a_fifth_and_never_seen(operation: str) -> None:
    seen, new = requests(operation, "seen"), requests(operation, "new")
    total = len(BASE_WORDINGS[operation]) * len(FRAMES)
    assert not set(seen) & set(new)
    assert len(set(seen) | set(new)) == total
    assert len(new) == total / 5


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_base_wording_and_frame_is_seen(operation: str) -> None:
    seen = requests(operation, "seen")
    assert set(BASE_WORDINGS[operation]) <= set(seen)
    for frame in FRAMES:
        assert any(frame.format(base) in seen for base in BASE_WORDINGS[operation])


def test_a_request_has_one_meaning() -> None:
    bases = [base for wordings in BASE_WORDINGS.values() for base in wordings]
    assert len(set(bases)) == len(bases)


def test_requests_are_plain_lower_case() -> None:
    every = [text for operation in OPERATIONS for wording in ("seen", "new") for text in requests(operation, wording)]
    assert len(every) > 500
    assert all(text == text.lower().strip() and not text.endswith(".") for text in every)
