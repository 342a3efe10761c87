from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.prepare.shards.packing import key_of, pack
from mgie_lit.testing.datasets import write_ipr2pr_packed


def test_images_without_files_are_png(tmp_path: Path) -> None:
    write_ipr2pr_packed(tmp_path)
    dataset = IPr2Pr("train", root=tmp_path)
    members = {suffix: content for _, suffix, content in pack(dataset, 0).members}
    assert list(members) == ["source.png", "target.png", "json"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(members["source.png"]))), np.asarray(dataset[0].source))


def test_keys_have_no_dots() -> None:
    ids = ["a.b", "a%2Eb", "a%b"]
    keys = [key_of(name) for name in ids]
    assert len(set(keys)) == 3
    assert not any("." in key for key in keys)
