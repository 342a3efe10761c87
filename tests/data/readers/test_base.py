"""What all readers share, seen on a small folder of a user's own."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgie_lit.data.readers import EditDataset, shared_splits
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.testing.datasets import write_imagefolder

Open = Callable[..., ImageFolder]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six examples without expressive instructions: photo-000, pair-1, photo-002, pair-3, photo-004, pair-5."""
    write_imagefolder(tmp_path / "own", num_examples=6, has_expressive=False)
    return tmp_path / "own"


@pytest.fixture
def opened(root: Path) -> Open:
    return lambda num_examples=None, **kwargs: ImageFolder("val", num_examples, **{"root": root} | kwargs)


def ids(dataset: ImageFolder) -> list[str]:
    return [dataset.sample_id(index) for index in range(len(dataset))]


def write_words(path: Path, *names: str) -> str:
    lines = [json.dumps({"id": name, "expressive_instruction": f"words of {name}"}) for name in names]
    path.write_text("\n".join(lines))
    return str(path)


ALL = ["photo-000", "pair-1", "photo-002", "pair-3", "photo-004", "pair-5"]


def test_is_an_edit_dataset(opened: Open) -> None:
    dataset = opened()
    assert isinstance(dataset, EditDataset)
    assert ids(dataset) == ALL
    assert [dataset[index].sample_id for index in range(6)] == ALL
    assert dataset.row(3).source == "sources/photo-003.png"
    for index in (-1, 6):
        with pytest.raises(IndexError, match=f"index: expected 0 to 5, got {index}"):
            dataset[index]


def test_the_first_so_many(opened: Open) -> None:
    assert ids(opened(2)) == ALL[:2]
    assert ids(opened(7)) == ALL, "more than there are means all"


def test_nothing_is_opened_or_looked_for_at_the_start(root: Path, opened: Open) -> None:
    for path in root.glob("*/*"):
        path.unlink()
    dataset = opened()
    assert ids(dataset) == ALL
    message = r"pair-1 \(metadata\.jsonl, line 2\): .*sources/photo-001\.png: expected an image file, got nothing"
    with pytest.raises(DataError, match=message):
        dataset[1]


def test_workers_get_the_same_examples(opened: Open, tmp_path: Path) -> None:
    dataset = opened(expressive=write_words(tmp_path / "words.jsonl", *ALL))
    copied = pickle.loads(pickle.dumps(dataset))
    assert ids(copied) == ALL
    assert copied[4].expressive_instruction == "words of photo-004"
    assert copied[4].target.tobytes() == dataset[4].target.tobytes()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"root": None},
            r"data\.root: expected the folder of imagefolder, got null; see docs/datasets\.md#imagefolder",
        ),
        ({"root": "/no/such"}, r"data\.root: expected the folder of imagefolder, got /no/such, which is not there"),
        ({"root": __file__}, r"data\.root: expected the folder of .*test_base\.py, which is a file"),
        ({"root": "hf:owner/name"}, r"got hf:owner/name, which is not there"),
        ({"root": None, "option": "data.a"}, r"^data\.a\.root: expected the folder"),
        ({"num_examples": 0}, r"data\.num_examples\.val: expected at least 1 example, or null for all, got 0"),
        ({"on_error": "stop"}, r"data\.on_error: expected one of error, skip"),
    ],
)
def test_bad_values(opened: Open, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(**changes)


@pytest.mark.faults
def test_unknown_split(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"split: expected one of train, val, test, got 'dev'"):
        ImageFolder("dev", root=root)


def test_undivided_data_are_warned_of_in_training(root: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    opened()
    assert not caplog.text
    ImageFolder("train", root=root)
    assert "is not divided (or too small for it): training, validation and test hold the same 6" in caplog.text


def test_which_splits_share_their_rows(root: Path, tmp_path: Path) -> None:
    assert shared_splits(ImageFolder("test", root=root)) == ("train", "val", "test")
    write_imagefolder(tmp_path / "divided", num_examples=2, is_divided=True)
    assert shared_splits(ImageFolder("test", root=tmp_path / "divided")) == ()


def test_words_of_a_file(opened: Open, tmp_path: Path) -> None:
    file = write_words(tmp_path / "words.jsonl", *reversed(ALL), "of another split")
    dataset = opened(expressive=file)
    assert dataset.missing_expressive() == (0, [])
    assert dataset[3].expressive_instruction == "words of pair-3"
    assert opened(expressive="instruction")[1].expressive_instruction == dataset[1].instruction
    assert opened().missing_expressive() == (6, ALL[:5])
    assert opened()[0].expressive_instruction is None


def test_words_of_a_file_come_before_the_data_sets_own(tmp_path: Path) -> None:
    write_imagefolder(tmp_path / "own", num_examples=3)
    dataset = ImageFolder("val", root=tmp_path / "own", expressive=write_words(tmp_path / "words.jsonl", "pair-1"))
    words = [dataset[index].expressive_instruction for index in range(3)]
    assert words[1] == "words of pair-1"
    assert words[0] == ImageFolder("val", root=tmp_path / "own")[0].expressive_instruction is not None


@pytest.mark.faults
def test_words_that_are_missing_are_counted_and_named(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_words(tmp_path / "words.jsonl", "photo-000", "pair-1", "photo-002")
    message = (
        r"each of the 6 val examples of imagefolder, got none for 3 of them \(pair-3, photo-004, pair-5\) in .*words"
    )
    with pytest.raises(DataError, match=message):
        opened(expressive=file)
    assert len(opened(3, expressive=file)) == 3, "only the examples that are used count"
    assert ids(opened(expressive=file, on_error="skip")) == ALL[:3]
    assert "left out 3 of 6 examples: pair-3: no expressive instruction" in caplog.text
    with pytest.raises(DataError, match=r"got none for 6 of them"):
        opened(expressive=write_words(tmp_path / "none.jsonl", "x"), on_error="skip")


@pytest.mark.faults
def test_examples_of_a_list_are_left_out(opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "pair-3", "problem": "cut"}\n{"id": "of another split"}\n')
    exclude = str(tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match=r"data: 1 of 6 examples are bad \(pair-3: cut\); .*data\.on_error=skip"):
        opened(exclude=exclude)
    dataset = opened(exclude=exclude, on_error="skip")
    assert ids(dataset) == [name for name in ALL if name != "pair-3"]
    assert ids(opened(4, exclude=exclude, on_error="skip")) == ["photo-000", "pair-1", "photo-002", "photo-004"]
    assert "left out 1 of 6 examples: pair-3: cut" in caplog.text


@pytest.mark.faults
def test_bad_images_are_found_and_left_out(root: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    (root / "targets" / "photo-002.png").write_bytes(b"")
    (root / "sources" / "photo-005.png").unlink()
    with pytest.raises(
        DataError, match=r"photo-002 .*targets/photo-002\.png: expected an image file, got an empty one"
    ):
        opened()[2]
    dataset = opened(on_error="skip")
    assert ids(dataset) == ["photo-000", "pair-1", "pair-3", "photo-004"]
    assert "left out 2 of 6 examples: photo-002: " in caplog.text
    assert "photo-002.png: expected an image file, got an empty one" in caplog.text
    assert [dataset[index].sample_id for index in range(4)] == ids(dataset)
    assert ids(opened(3, on_error="skip")) == ["photo-000", "pair-1", "pair-3"], "good ones take the places of bad ones"


@pytest.mark.faults
def test_a_split_without_a_good_example(root: Path, opened: Open) -> None:
    for path in root.glob("sources/*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"data: all 6 examples of the split val are bad"):
        opened(on_error="skip")
