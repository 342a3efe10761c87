from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.cache import samples
from mgie_lit.data.cache.samples import Sample, SampleTable, describe, is_untouched, pixel_digest
from mgie_lit.testing.random_data import random_example


def sample(number: int, source: int = 0) -> Sample:
    return Sample(f"row-{number}", bytes([source] * 32), bytes([number] * 32), "1 2 3", "ab")


def test_the_latest_sample_of_an_id_counts(tmp_path: Path) -> None:
    table = SampleTable(tmp_path)
    assert table.find("row-0") is None
    table.append([sample(0), sample(1)])
    table.append([sample(2), sample(0, source=7)])
    assert len(table) == 4
    assert table.find("row-0") == sample(0, source=7)
    assert table.find("row-1") == sample(1)
    assert table.find("row-3") is None
    assert table.rows_of(["row-2", "row-9", "row-0"]).tolist() == [2, -1, 3]
    assert SampleTable(tmp_path).find("row-2") == sample(2)
    assert pickle.loads(pickle.dumps(table)).find("row-2") == sample(2)


def test_ids_with_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_place", lambda sample_id: 5)
    table = SampleTable(tmp_path)
    table.append([sample(0), sample(1), sample(2)])
    assert table.find("row-1") == sample(1)
    assert table.rows_of(["row-1", "row-0", "row-3"]).tolist() == [1, 0, -1]


def test_no_samples_and_no_ids(tmp_path: Path) -> None:
    table = SampleTable(tmp_path)
    assert table.rows_of(["a"]).tolist() == [-1]
    table.append([sample(0)])
    assert table.rows_of([]).tolist() == []


def test_keys_depend_on_what_the_parts_see() -> None:
    one = sample(0)
    other_target, other_source = replace(one, target=bytes(31) + b"x"), replace(one, source=bytes(31) + b"x")
    assert one.keys.keys() == {"latents", "vision"}
    assert one.keys["vision"] == other_target.keys["vision"] != other_source.keys["vision"]
    assert len({part.keys["latents"] for part in (one, other_target, other_source)}) == 3
    assert replace(one, sample_id="another", stamps="").keys == one.keys


def test_pixels_and_shape_identify_an_image() -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    assert pixel_digest(image) == pixel_digest(image.copy())
    assert pixel_digest(image) != pixel_digest(Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 2, 3)))
    assert len(pixel_digest(image)) == 32


def test_files_are_untouched_until_their_bytes_change(tmp_path: Path) -> None:
    files = (tmp_path / "a.png", tmp_path / "b.png")
    example = random_example(0)
    example.source.save(files[0])
    example.target.save(files[1])  # type: ignore[union-attr]
    stored = describe(example, files)
    assert is_untouched(stored, files)
    os.utime(files[0])
    assert is_untouched(stored, files), "another time, the same bytes"
    copies = tuple(Path(shutil.copy(file, tmp_path / f"copy-{file.name}")) for file in files)
    assert is_untouched(stored, copies)
    example.source.save(files[1])
    assert not is_untouched(stored, files)
    files[1].unlink()
    assert not is_untouched(stored, files)


def test_examples_that_lie_in_no_files_have_to_be_opened() -> None:
    stored = describe(random_example(0))
    assert (stored.stamps, stored.content) == ("", "")
    assert not is_untouched(stored, ())
