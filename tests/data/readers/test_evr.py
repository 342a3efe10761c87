from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgie_lit.data.readers.evr import EVR
from mgie_lit.errors import DataError


def test_one_sentence_in_training_and_three_in_the_others(datasets_dir: Path) -> None:
    sets = {split: EVR(split, root=datasets_dir / "evr") for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 8, "val": 12, "test": 12}
    assert [sets["val"].sample_id(index) for index in range(4)] == [
        "Reddit_1008-0",
        "Reddit_1008-1",
        "Reddit_1008-2",
        "Zhopped_1009-0",
    ]


def test_every_kind_of_image_file_opens(datasets_dir: Path) -> None:
    dataset = EVR("train", root=datasets_dir / "evr")
    suffixes = {
        Path(str(path)).suffix for index in range(8) for path in (dataset.row(index).source, dataset.row(index).target)
    }
    assert suffixes == {".jpg", ".png", ".JPG", ".jpeg", ".gif"}
    examples = [dataset[index] for index in range(8)]
    assert all(example.source.mode == example.target.mode == "RGB" for example in examples)  # type: ignore[union-attr]


def test_words_are_the_owners_and_photographs_are_sessions(datasets_dir: Path) -> None:
    dataset = EVR("train", root=datasets_dir / "evr")
    first, second = dataset[0], dataset[1]
    assert first.instruction == "make it a negative (0) ", "blanks and all"
    assert first.session_id == second.session_id == "Reddit.com_train0_ain0"
    assert (first.attributes, second.attributes) == ({"site": "Reddit"}, {"site": "Zhopped"})
    assert (first.mask, first.caption, first.expressive_instruction) == (None, None, None)


def test_one_split_is_enough_and_images_may_lie_beside_it(datasets_dir: Path, tmp_path: Path) -> None:
    for path in [datasets_dir / "evr" / "test.json", *(datasets_dir / "evr" / "images").iterdir()]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert EVR("test", root=tmp_path)[0].source.mode == "RGB"
    with pytest.raises(
        DataError, match=r"data\.root: no train\.json in .*; expected a layout of docs/datasets\.md#evr"
    ):
        EVR("train", root=tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uid": None}, r"train\.json, row 1: expected a text under 'uid', got None"),
        ({"sents": "make it blue"}, r"train\.json, row 1: expected a list of texts under 'sents'"),
        ({"uid": "a"}, r"expected unique ids, got 'a-0' for train\.json, row 0 and for train\.json, row 1"),
        ({"uid": "a/b"}, r"expected ids that are safe as file names .*, got 'a/b-0' for train\.json, row 1"),
    ],
)
def test_faulty_rows(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    row = {"img0": "a.jpg", "img1": "b.jpg", "sents": ["x"], "uid": "a"}
    (tmp_path / "train.json").write_text(json.dumps([row, row | {"uid": "b"} | changes]))
    with pytest.raises(DataError, match=message):
        EVR("train", root=tmp_path)


def test_real_annotations(real_data: Path) -> None:
    sets = {split: EVR(split, root=real_data / "evr") for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 3061, "val": 1149, "test": 1485}
    names = {data.sample_id(index) for data in sets.values() for index in range(len(data))}
    assert len(names) == 5695
    assert (sets["train"].sample_id(0), sets["test"].sample_id(2)) == ("Zhopped_2-0", "Reddit_1052-2")
    assert sets["train"].row(1).instruction == "Making dark color "
