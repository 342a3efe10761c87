"""Instructions without images, and batches of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.photo_edits import PhotoEdits
from mgie_lit.errors import DataError
from mgie_lit.prepare.expressive.requests import BatchPlan, Requests
from mgie_lit.types import EditExample

from .conftest import write_pairs


class Examples:
    """A reader that gives examples as a whole."""

    def __init__(self, rows: dict[str, str]) -> None:
        self.rows = list(rows.items())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EditExample:
        sample_id, instruction = self.rows[index]
        return EditExample(sample_id, Image.new("RGB", (index + 1, 2)), None, instruction)

    def sample_id(self, index: int) -> str:
        return self.rows[index][0]


def test_annotations_without_images(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b"], split="train")
    write_pairs(tmp_path, ["c"], split="val")
    requests = Requests({split: ImageFolder(split, root=tmp_path) for split in ("train", "val")})
    assert requests.ids == ["train-0", "train-1", "val-0"]
    assert requests.splits == ["train", "train", "val"]
    assert requests.instructions == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"val-0 \(val/metadata\.jsonl, line 1\): .*0\.png: expected an image file"):
        requests.source(2)


def test_images_are_those_of_their_examples(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a", "b", "c"], images=True)
    requests = Requests({"val": ImageFolder("val", root=tmp_path)})
    assert [requests.source(position).size for position in (2, 0)] == [(30, 22), (30, 20)]


def test_readers_that_make_their_images() -> None:
    requests = Requests({"val": PhotoEdits("val", 3, 16)})
    assert len(requests) == 3
    assert requests.instructions[1] == PhotoEdits("val", 3, 16)[1].instruction


def test_data_that_are_not_divided_count_once() -> None:
    examples = Examples({"a": "red", "b": "blue"})
    requests = Requests({"train": examples, "val": examples})
    assert requests.ids == ["a", "b"]
    assert requests.source(1).size == (2, 2)


def test_one_id_for_two_examples() -> None:
    with pytest.raises(DataError, match=r"data: expected unique ids, got a in train with 'red' and in val with 'blue'"):
        Requests({"train": Examples({"a": "red"}), "val": Examples({"a": "blue"})})


def test_no_examples() -> None:
    with pytest.raises(DataError, match=r"data: expected at least one example, got none; check expressive\.splits"):
        Requests({"train": Examples({})})


def test_fingerprint_is_of_ids_and_instructions_in_order() -> None:
    prints = [
        Requests({"val": Examples(rows)}).fingerprint()
        for rows in (
            {"a": "b", "c": "d"},
            {"a": "b", "c": "d"},
            {"c": "d", "a": "b"},
            {"a": "bc", "": "d"},
            {"a": "\ud800"},
        )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


@given(st.lists(st.text(max_size=9), min_size=1, max_size=40), st.integers(1, 7), st.booleans())
def test_every_example_is_in_one_batch(instructions: list[str], batch_size: int, sort: bool) -> None:
    plan = BatchPlan(instructions, batch_size, sort=sort)
    batches = [plan.positions(batch) for batch in range(len(plan))]
    assert sorted(position for batch in batches for position in batch) == list(range(len(instructions)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(plan.batch_of(position) == number for number, batch in enumerate(batches) for position in batch)
    lengths = [len(instructions[position]) for batch in batches for position in batch]
    assert not sort or lengths == sorted(lengths, reverse=True)
    assert sort or [position for batch in batches for position in batch] == list(range(len(instructions)))
