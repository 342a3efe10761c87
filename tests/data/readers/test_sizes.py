"""Sizes of pictures are those that opening gives, and are measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.image_files import image_size, open_image
from mgie_lit.data.mixture import Mixture, MixturePart
from mgie_lit.data.readers import KnowsSizes
from mgie_lit.data.readers.gier import GIER
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.magicbrush import MagicBrush
from mgie_lit.data.readers.shards import Shards
from mgie_lit.data.readers.sizes import stored_sizes
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.testing.datasets import (
    write_gier,
    write_imagefolder,
    write_ipr2pr,
    write_ipr2pr_columns,
    write_ipr2pr_packed,
    write_magicbrush_columns,
)
from mgie_lit.testing.random_data import RandomDataset


@pytest.mark.parametrize("orientation", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_header_and_picture_agree(orientation: int | None, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert image_size(path) == open_image(path).size


def test_no_image(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"photo.png: expected an image, got a file in no format that Pillow knows"):
        image_size(tmp_path / "photo.png")


READERS = {
    "imagefolder": (ImageFolder, write_imagefolder),
    "gier": (GIER, write_gier),
    "folders": (IPr2Pr, write_ipr2pr),
    "packed": (IPr2Pr, write_ipr2pr_packed),
    "columns": (IPr2Pr, write_ipr2pr_columns),
    "magicbrush columns": (MagicBrush, write_magicbrush_columns),
}


@pytest.mark.parametrize("name", READERS)
def test_every_layout_knows_its_sizes(name: str, tmp_path: Path) -> None:
    reader, write = READERS[name]
    write(tmp_path / "data")  # type: ignore[operator]
    for split in ("train", "val"):
        dataset = reader(split, root=tmp_path / "data", index_dir=tmp_path / "index")
        sizes = dataset.source_sizes()
        assert isinstance(dataset, KnowsSizes)
        assert [tuple(size) for size in sizes.tolist()] == [dataset[index].source.size for index in range(len(dataset))]


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    """Eight pairs, each of another size."""
    write_imagefolder(tmp_path / "pairs")
    for number, path in enumerate(sorted((tmp_path / "pairs" / "sources").iterdir())):
        Image.new("RGB", (20 + number, 40 - number)).save(path)
    return tmp_path / "pairs"


def test_shards_and_mixtures(unequal: Path, tmp_path: Path) -> None:
    pairs = ImageFolder("train", root=unequal)
    write_shards(tmp_path / "out", {"train": pairs}, {}, max_bytes=10**6)
    shards = Shards("train", root=tmp_path / "out")
    assert shards.source_sizes().tolist() == pairs.source_sizes().tolist() == [[20 + n, 40 - n] for n in range(8)]
    parts = {
        "few": MixturePart(lambda split, num_examples, option: ImageFolder(split, 3, root=unequal), 1.0),
        "all": MixturePart(lambda split, num_examples, option: ImageFolder(split, root=unequal), 1.0),
    }
    mixture = Mixture("train", parts=parts)
    assert [tuple(size) for size in mixture.source_sizes()] == [mixture[n].source.size for n in range(len(mixture))]


@pytest.mark.faults
def test_a_part_without_sizes() -> None:
    part = MixturePart(lambda split, num_examples, option: RandomDataset(split, 3))
    with pytest.raises(ConfigError, match=r"data.max_aspect: expected data that know .* got drawn \(RandomDataset\)"):
        Mixture("train", parts={"drawn": part}).source_sizes()


def test_measured_once_and_only_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.data.readers.sizes.PIECE", 3)
    calls: list[int] = []

    def measure(row: int) -> tuple[int, int]:
        calls.append(row)
        if row == 4:
            raise DataError("row 4 is bad")
        if row == 7 and calls.count(7) == 1:
            raise KeyboardInterrupt
        return row + 1, 2

    assert stored_sizes(tmp_path, [5, 3], 8, measure, "pairs").tolist() == [[6, 2], [4, 2]]
    assert calls == [3, 4, 5], "a piece; row 4 is bad, but nobody asked for it"
    with pytest.raises(KeyboardInterrupt):
        stored_sizes(tmp_path, range(8), 8, measure, "pairs")
    with pytest.raises(DataError, match="row 4 is bad"):
        stored_sizes(tmp_path, range(8), 8, measure, "pairs")
    assert calls[3:] == [0, 1, 2, 6, 7, 6, 7, 4], "what a stopped process had measured is used"
    calls.clear()
    assert stored_sizes(tmp_path, np.array([7, 0]), 8, measure, "pairs").tolist() == [[8, 2], [1, 2]]
    assert calls == []


@pytest.mark.faults
def test_a_picture_that_can_not_be_measured(unequal: Path) -> None:
    (unequal / "sources" / "photo-002.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"photo-002 \(metadata.jsonl, line 3\): .*photo-002.png: .* an empty one"):
        ImageFolder("train", root=unequal).source_sizes()
    assert len(ImageFolder("train", root=unequal, on_error="skip").source_sizes()) == 7
