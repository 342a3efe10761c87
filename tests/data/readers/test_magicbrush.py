from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgie_lit.data.readers.magicbrush import MagicBrush
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.testing.datasets import write_magicbrush, write_magicbrush_columns


def ids(dataset: MagicBrush) -> list[str]:
    return [dataset.sample_id(index) for index in range(len(dataset))]


@pytest.fixture(params=["magicbrush", "magicbrush_columns"])
def layout(request: pytest.FixtureRequest, datasets_dir: Path, index_dir: Path) -> dict[str, Any]:
    """Arguments that open one of the layouts."""
    return {"root": datasets_dir / request.param, "index_dir": index_dir}


def test_turns_of_sessions(layout: dict[str, Any]) -> None:
    dataset = MagicBrush("val", **layout)
    assert ids(dataset) == ["7102-1", "7119-1", "7119-2", "7136-1", "7136-2", "7136-3"]
    examples = [dataset[index] for index in range(6)]
    assert [(example.session_id, example.turn) for example in examples] == [
        ("7102", 1),
        *[("7119", turn) for turn in (1, 2)],
        *[("7136", turn) for turn in (1, 2, 3)],
    ]
    assert examples[4].source.tobytes() == examples[3].target.tobytes(), "a turn starts from the true last one"
    assert examples[3].instruction == "make it a negative where the disc is (8)"
    assert len(MagicBrush("train", **layout)) == 12


def test_masks_are_the_transparent_part_at_the_sources_size(layout: dict[str, Any]) -> None:
    for example in (MagicBrush("val", **layout)[index] for index in range(6)):
        inside = np.asarray(example.mask) == 255
        changed = (np.asarray(example.source) != np.asarray(example.target)).any(axis=-1)
        assert inside.shape == changed.shape == (24, 24)
        assert changed[inside].any()
        assert not changed[~inside].any()


def test_a_session_is_an_example_in_the_multi_turn_view(layout: dict[str, Any]) -> None:
    turns = MagicBrush("val", **layout)
    dataset = MagicBrush("val", view="multi_turn", **layout)
    assert ids(dataset) == ["7102-1", "7119-2", "7136-3"]
    last = dataset[2]
    assert last.source.tobytes() == turns[3].source.tobytes()
    assert last.target.tobytes() == turns[5].target.tobytes()
    assert (last.turn, last.mask) == (3, None)
    assert last.instruction == ". ".join(turns[index].instruction for index in (3, 4, 5))


def test_workers_get_the_same(layout: dict[str, Any]) -> None:
    dataset = MagicBrush("val", **layout)
    assert pickle.loads(pickle.dumps(dataset))[5].target.tobytes() == dataset[5].target.tobytes()


@pytest.mark.parametrize(("captions", "text"), [("local", "the disc in"), ("global", "all of")])
def test_captions_of_dev_and_test(datasets_dir: Path, captions: str, text: str) -> None:
    dataset = MagicBrush("test", root=datasets_dir / "magicbrush", captions=captions)
    assert dataset[0].caption == f"{text} 7153-output1.png"
    assert MagicBrush("train", root=datasets_dir / "magicbrush", captions=captions)[0].caption is None


def test_older_columns_have_no_mask(tmp_path: Path, index_dir: Path) -> None:
    write_magicbrush_columns(tmp_path / "old", is_old=True)
    dataset = MagicBrush("train", root=tmp_path / "old", index_dir=index_dir)
    assert len(dataset) == 12
    assert dataset[0].mask is None
    assert dataset[0].source.tobytes() != dataset[0].target.tobytes()


def test_a_single_split_by_its_folder(datasets_dir: Path, tmp_path: Path) -> None:
    root = datasets_dir / "magicbrush"
    assert ids(MagicBrush("test", root=root / "test")) == ids(MagicBrush("test", root=root))
    with pytest.raises(DataError, match=r"data\.root: expected train/edit_sessions\.json in .*test, got test only"):
        MagicBrush("train", root=root / "test")
    write_magicbrush(tmp_path, splits=("dev",))
    (tmp_path / "dev").rename(tmp_path / "mine")
    assert ids(MagicBrush("train", root=tmp_path / "mine")) == ids(MagicBrush("val", root=root))


@pytest.mark.faults
def test_test_split_is_not_in_the_columns(datasets_dir: Path, index_dir: Path) -> None:
    with pytest.raises(DataError, match=r"expected examples of magicbrush for the split test, got none in"):
        MagicBrush("test", root=datasets_dir / "magicbrush_columns", index_dir=index_dir)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": "turns"}, r"data\.view: expected one of single_turn, multi_turn, got 'turns'; use one of these"),
        ({"captions": "none"}, r"data\.captions: expected one of local, global, got 'none'"),
    ],
)
def test_bad_values(datasets_dir: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MagicBrush("val", root=datasets_dir / "magicbrush", **changes)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], r"edit_sessions\.json: expected \{id: \[turn, \.\.\.\]\}, got a list; copy it again"),
        ({"7": "x"}, r"edit_sessions\.json, 7: expected a list of turns, got x; repair it"),
        ({"7": [{"input": "a.png"}]}, r"dev/edit_sessions\.json, 7, turn 1: expected a text under 'output', got None"),
    ],
)
def test_faulty_sessions(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "edit_sessions.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        MagicBrush("val", root=tmp_path)


@pytest.mark.faults
def test_folder_of_something_else(datasets_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: no dev/edit_sessions\.json or parquet file in .*#magicbrush$"):
        MagicBrush("val", root=tmp_path)
    inside = datasets_dir / "magicbrush" / "train" / "images"
    with pytest.raises(DataError, match=r"\(did you mean .*/magicbrush/train\?\)"):
        MagicBrush("train", root=inside)
