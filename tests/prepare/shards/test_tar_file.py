from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.shards import Shards
from mgie_lit.prepare.shards.manifest import CHECKSUMS
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.testing.datasets import write_imagefolder


def test_layout_for_other_programs(write: Callable[..., dict[str, int]], pairs: Path, tmp_path: Path) -> None:
    """Members of an example stand together, share all before the first dot, and keep the bytes of their files."""
    write(tmp_path / "out")
    paths = sorted((tmp_path / "out").glob("train-*.tar"))
    assert len(paths) > 1
    assert all(path.stat().st_size <= 20480 for path in paths)
    groups: dict[str, dict[str, bytes]] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                assert key not in list(groups)[:-1], "another example lies between"
                groups.setdefault(key, {})[suffix] = tar.extractfile(member).read()  # type: ignore[union-attr]
    assert len(groups) == 7
    group = groups["photo-000"]
    assert list(group) == ["source.png", "target.png", "mask.png", "json"]
    assert group["source.png"] == (pairs / "train/sources/photo-000.png").read_bytes()
    example = ImageFolder("train", root=pairs)[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(group["mask.png"]))), np.asarray(example.mask))
    assert json.loads(group["json"]) == {
        "id": "photo-000",
        "instruction": example.instruction,
        "expressive_instruction": example.expressive_instruction,
        "caption": example.caption,
        "turn": 1,
        "session": "",
        "attributes": {"kind": "even"},
    }
    for line in (tmp_path / "out" / CHECKSUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()


def test_long_names(tmp_path: Path) -> None:
    """A header of its own does not move the places."""
    write_imagefolder(tmp_path / "pairs", num_examples=2)
    file = tmp_path / "pairs" / "metadata.jsonl"
    rows = [json.loads(line) | {"id": f"{number}-" + 60 * "ü"} for number, line in enumerate(file.open())]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    before = ImageFolder("train", root=tmp_path / "pairs")
    write_shards(tmp_path / "out", {"train": before}, {}, max_bytes=10**6)
    assert [Shards("train", root=tmp_path / "out")[index] for index in (0, 1)] == [before[0], before[1]]
