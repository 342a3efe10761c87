"""Sample ids are a promise: files of predictions, expressive instructions and exclusions are joined by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

from mgie_lit.data.readers import SPLITS
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.evr import EVR
from mgie_lit.data.readers.gier import GIER
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.ma5k import MA5k
from mgie_lit.data.readers.magicbrush import FOLDERS, MagicBrush
from mgie_lit.data.readers.photo_edits import PhotoEdits
from mgie_lit.data.readers.shards import Shards
from mgie_lit.prepare.shards.writing import write_shards

READERS: dict[str, Callable[..., FileReader]] = {
    "evr": EVR,
    "gier": GIER,
    "imagefolder": ImageFolder,
    "ipr2pr": IPr2Pr,
    "ipr2pr_packed": IPr2Pr,
    "ma5k": MA5k,
    "magicbrush": MagicBrush,
}


def ids(dataset: Any) -> list[str]:  # noqa: ANN401
    return [dataset.sample_id(index) for index in range(len(dataset))]


def read(path: Path) -> Any:  # noqa: ANN401
    return json.loads(path.read_text(encoding="utf-8"))


def stem(name: str) -> str:
    return PurePath(name).stem


def evr(root: Path, split: str) -> list[str]:
    """``<uid>-<k>``."""
    entries = read(root / f"{'valid' if split == 'val' else split}.json")
    return [f"{entry['uid']}-{k}" for entry in entries for k in range(len(entry["sents"]))]


def gier(root: Path, split: str) -> list[str]:
    """``<output stem>-expert<k>`` and ``-amateur<k>``."""
    entries = read(root / "splits" / f"{split}_sess_3.json")
    return [
        f"{stem(entry['output'])}-{writer}{k}"
        for entry in entries
        for writer in ("expert", "amateur")
        for k in range(len(entry[f"{writer}_summary"]))
    ]


def imagefolder(root: Path, split: str) -> list[str]:
    """``id``, else the source's stem; here not divided."""
    rows = map(json.loads, (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines())
    return [row.get("id", stem(row["source_file_name"])) for row in rows]


def ipr2pr(root: Path, split: str) -> list[str]:
    """``<name>_<seed>``; 90, 5 and 5 percent of the prompts."""
    prompts = read(root.with_name("ipr2pr") / "seeds.json")
    first, last = {"train": (0, 36), "val": (36, 38), "test": (38, 40)}[split]
    return [f"{name}_{seed}" for name, seeds in prompts[first:last] for seed in seeds]


def ma5k(root: Path, split: str) -> list[str]:
    """``<input stem>__<output stem>``; training is what the others leave over."""
    names = {
        part: [f"{stem(entry['input'])}__{stem(entry['output'])}" for entry in read(path)]
        for part, path in {
            "val": root / "annotations" / "val_sess_1.json",
            "test": root / "annotations" / "test_sess_1.json",
            "all": root / "FiveK.json",
        }.items()
    }
    held_out = {*names["val"], *names["test"]}
    return [name for name in names["all"] if name not in held_out] if split == "train" else names[split]


def magicbrush(root: Path, split: str) -> list[str]:
    """``<img_id>-<turn>``."""
    sessions = read(root / FOLDERS[split] / "edit_sessions.json")
    return [f"{name}-{turn}" for name, turns in sessions.items() for turn in range(1, len(turns) + 1)]


RULES = {
    "evr": evr,
    "gier": gier,
    "imagefolder": imagefolder,
    "ipr2pr": ipr2pr,
    "ipr2pr_packed": ipr2pr,
    "ma5k": ma5k,
    "magicbrush": magicbrush,
}
# The first of training and the last of test, as they have been since the first version.
GOLDEN = {
    "evr": ("Reddit_1000-0", "Zhopped_1015-2"),
    "gier": ("train0_x0-expert0", "test19_x19-amateur1"),
    "imagefolder": ("photo-000", "pair-7"),
    "ipr2pr": ("0000132_1000003", "0000639_40030141"),
    "ipr2pr_packed": ("0000132_1000003", "0000639_40030141"),
    "ma5k": ("0004_O__0004_A", "0003_O__0003_E"),
    "magicbrush": ("7000-1", "7187-3"),
}


@pytest.mark.parametrize("name", RULES)
def test_ids_are_made_of_the_annotations(name: str, datasets_dir: Path, index_dir: Path) -> None:
    root = datasets_dir / name
    found = {split: ids(READERS[name](split, root=root, index_dir=index_dir)) for split in SPLITS}
    assert found == {split: RULES[name](root, split) for split in SPLITS}
    assert (found["train"][0], found["test"][-1]) == GOLDEN[name]


@pytest.mark.parametrize("streaming", [False, True])
def test_ids_of_columns(streaming: bool, datasets_dir: Path, index_dir: Path) -> None:
    """MagicBrush's columns name image and turn, IPr2Pr's have neither name nor seed: there it is the row."""
    kwargs: dict[str, Any] = {"streaming": streaming, "index_dir": index_dir}
    for split in ("train", "val"):
        brush = MagicBrush(split, root=datasets_dir / "magicbrush_columns", **kwargs)
        assert ids(brush) == magicbrush(datasets_dir / "magicbrush", split)
    rows = [ids(IPr2Pr(split, root=datasets_dir / "ipr2pr_columns", **kwargs)) for split in SPLITS]
    assert [name for split in rows for name in split] == [f"hf-{row:07d}" for row in range(40)]


def test_ids_of_made_pairs() -> None:
    assert ids(PhotoEdits("val", 3, resolution=16)) == ["val-000000", "val-000001", "val-000002"]


def test_shards_keep_ids(datasets_dir: Path, tmp_path: Path) -> None:
    dataset = GIER("val", root=datasets_dir / "gier")
    write_shards(tmp_path / "shards", {"val": dataset}, {}, max_bytes=2**20)
    assert ids(Shards("val", root=tmp_path / "shards")) == ids(dataset)
