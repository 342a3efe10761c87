"""The embedded data set as a whole."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.photo_edits.expressive import parse_expressive
from mgie_lit.data.photo_edits.families import FAMILIES
from mgie_lit.data.photo_edits.wordings import requests
from mgie_lit.data.readers import EditDataset
from mgie_lit.data.readers.photo_edits import PhotoEdits
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.types import EditExample

ALL_FAMILIES = dict.fromkeys(FAMILIES, 1.0)


def _same(first: EditExample, second: EditExample) -> bool:
    return (
        first.source.tobytes() == second.source.tobytes()
        and first.target.tobytes() == second.target.tobytes()  # type: ignore[union-attr]
        and (first.instruction, first.expressive_instruction) == (second.instruction, second.expressive_instruction)
        and first.attributes == second.attributes
    )


@pytest.fixture(autouse=True)
def _few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small training pool; the resolutions below are used by no other test."""
    monkeypatch.setattr("mgie_lit.data.photo_edits.crops.TRAIN_CROPS", 120)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten small noise photographs, by name different."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(10):
        pixels = np.random.default_rng(number).integers(40, 200, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(root / f"{number}.jpg")
    return str(root)


def test_is_an_edit_dataset() -> None:
    dataset = PhotoEdits("test", 7, 64)
    assert isinstance(dataset, EditDataset)
    assert len(dataset) == 7
    assert [dataset.sample_id(index) for index in (0, 6)] == ["test-000000", "test-000006"]
    assert dataset[6].sample_id == "test-000006"
    for index in (-1, 7):
        with pytest.raises(IndexError, match=f"index: expected 0 to 6, got {index}"):
            dataset[index]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_example_depends_on_its_address_alone(split: str, photographs: str) -> None:
    arguments = {"resolution": 32, "root": photographs, "families": ALL_FAMILIES}
    dataset = PhotoEdits(split, 60, seed=5, **arguments)  # type: ignore[arg-type]
    forward = [dataset[index] for index in range(60)]
    other = PhotoEdits(split, 90, seed=5, **arguments)  # type: ignore[arg-type]
    assert all(_same(other[index], forward[index]) for index in reversed(range(60)))
    copied = pickle.loads(pickle.dumps(dataset))
    assert all(_same(copied[index], forward[index]) for index in (0, 17, 59))
    reseeded = PhotoEdits(split, 60, seed=6, **arguments)  # type: ignore[arg-type]
    assert sum(_same(reseeded[index], forward[index]) for index in range(60)) < 6


def test_pickled_data_set_carries_no_pixels() -> None:
    dataset = PhotoEdits("test", 400, 64)
    dataset[0]
    assert len(pickle.dumps(dataset)) < 100_000


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_whole_examples(family: str, split: str, photographs: str) -> None:
    dataset = PhotoEdits(split, 60, 32, root=photographs, families={family: 1.0})
    for index in range(60):
        example = dataset[index]
        assert example.source.mode == example.target.mode == "RGB"  # type: ignore[union-attr]
        assert example.source.size == example.target.size == (32, 32)  # type: ignore[union-attr]
        assert "{" not in example.instruction
        assert parse_expressive(str(example.expressive_instruction)) == example.attributes["meaning"]
        assert example.attributes["family"] == family
        assert example.attributes["operation"] in FAMILIES[family].operations
        if FAMILIES[family].drawn:
            assert example.mask is not None
            assert example.mask.mode == "L"
            outside = np.asarray(example.mask) == 0
            assert np.array_equal(np.asarray(example.source)[outside], np.asarray(example.target)[outside])
            assert example.session_id == f"scene-{index:06d}"
        else:
            assert example.mask is None
            assert example.session_id == example.attributes["photograph"] != ""


def test_meaning_of_a_global_edit_is_its_operation() -> None:
    dataset = PhotoEdits("test", 20, 64)
    assert all(dataset[index].attributes["meaning"] == dataset[index].attributes["operation"] for index in range(20))


def test_four_hundred_test_examples_are_balanced() -> None:
    dataset = PhotoEdits("test", 400, 64)
    examples = [dataset[index] for index in range(400)]
    cells = Counter((example.attributes["operation"], example.session_id) for example in examples)
    assert len(cells) == 40
    assert set(cells.values()) == {10}
    wordings = Counter((example.attributes["operation"], example.attributes["wording"]) for example in examples)
    assert {count for (_, wording), count in wordings.items() if wording == "new"} == {8}
    pairs = {(example.attributes["operation"], example.source.tobytes()) for example in examples}
    assert len(pairs) == 400, "no pair is tested twice"


def test_splits_share_no_photograph(photographs: str) -> None:
    for root in (None, photographs):
        datasets = {split: PhotoEdits(split, 60, 28, root=root) for split in ("train", "val", "test")}
        names = {split: {data[index].session_id for index in range(60)} for split, data in datasets.items()}
        assert all(names.values())
        assert not names["train"] & names["test"]
        assert not names["train"] & names["val"]
        assert not names["val"] & names["test"]


def test_new_wordings_never_train(photographs: str) -> None:
    train = PhotoEdits("train", 1000, 16, root=photographs)
    trained = {train[index].instruction for index in range(1000)}
    test = PhotoEdits("test", 400, 64)
    for index in range(400):
        example = test[index]
        operation, wording = example.attributes["operation"], example.attributes["wording"]
        assert example.instruction in requests(operation, wording)
        if wording == "new":
            assert example.instruction not in trained


def test_training_reaches_every_operation_and_seen_wording(photographs: str) -> None:
    train = PhotoEdits("train", 5000, 16, root=photographs, operations=["brighter", "negative"])
    said = {train[index].instruction for index in range(1000)}
    assert said == set(requests("brighter", "seen")) | set(requests("negative", "seen"))


@pytest.mark.faults
def test_broken_photograph_of_the_user_is_named(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(DataError, match=r"val/photo\.jpg: expected"):
        PhotoEdits("val", 5, 32, root=str(tmp_path))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "valid"}, r"split: expected one of train, val, test, got 'valid'"),
        ({"num_examples": 0}, r"num_examples\.test: expected at least 1 example, got 0; pairs are made on the fly"),
        ({"num_examples": None}, r"num_examples\.test: expected at least 1 example, got None"),
        ({"resolution": 8}, r"resolution: expected at least 16 pixels, got 8"),
        ({"seed": -1}, r"seed: expected an integer from 0 to \d+, got -1"),
        ({"families": {"photos": 1.0}}, r"families: unknown \['photos'\]"),
    ],
)
def test_bad_values(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"split": "test", "num_examples": 4, "resolution": 32}
    with pytest.raises(ConfigError, match=message):
        PhotoEdits(**arguments | changes)  # type: ignore[arg-type]


@pytest.mark.faults
def test_missing_folder() -> None:
    with pytest.raises(DataError, match=r"data\.root: expected a folder of photographs, got /no/such/folder"):
        PhotoEdits("test", 4, 32, root="/no/such/folder")
