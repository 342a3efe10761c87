from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from mgie_lit.data.readers.columns import ArrowRows, Columns, is_columns, is_hub, open_columns
from mgie_lit.errors import DataError
from mgie_lit.testing.datasets.pictures import encoded, image_column, source_picture

ALIASES = {"words": ("edit_prompt",), "source": ("input_image", "original_image"), "caption": ("edited_prompt",)}


def demo() -> datasets.Dataset:
    values = {
        "edit_prompt": ["a", "b", "c"],
        "original_image": [*image_column([source_picture(1), source_picture(2)]), None],
    }
    features = datasets.Features({"edit_prompt": datasets.Value("string"), "original_image": datasets.Image()})
    return datasets.Dataset.from_dict(values, features=features)


def columns(dataset: Any = None) -> Columns:  # noqa: ANN401
    return Columns(ArrowRows(dataset or demo()), ALIASES, optional=["caption"], where="here")


def test_texts_and_images_by_our_names() -> None:
    data = columns()
    assert len(data) == 3
    assert data.texts(["words", "caption"], range(1, 3)) == [{"words": "b"}, {"words": "c"}]
    assert data.image(1, "source").tobytes() == source_picture(2).tobytes()
    assert data.fingerprint == columns().fingerprint


def test_images_stored_as_plain_bytes() -> None:
    plain = datasets.Dataset.from_dict({"edit_prompt": ["a"], "input_image": [encoded(source_picture(5))]})
    assert columns(plain).image(0, "source").tobytes() == source_picture(5).tobytes()


@pytest.mark.faults
def test_columns_that_are_missing_or_empty() -> None:
    with pytest.raises(
        DataError, match=r"here: expected a column input_image or original_image, got edit_prompt; is it"
    ):
        columns(demo().remove_columns("original_image"))
    with pytest.raises(
        DataError, match=r"here, row 2, original_image: expected the bytes of an image, got (dict|NoneType)"
    ):
        columns().image(2, "source")


def test_kinds_of_folders(tmp_path: Path) -> None:
    assert not is_columns(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").touch()
    assert is_columns(tmp_path)
    assert is_columns(Path("hf:owner/name"))
    assert is_hub("hf:owner/name")
    assert not is_hub("owner/name")


def test_saved_data_sets_and_files_without_a_split(tmp_path: Path) -> None:
    demo().save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"dev": demo()}).save_to_disk(str(tmp_path / "split"))
    demo().to_parquet(str(tmp_path / "files.parquet"))
    assert is_columns(tmp_path / "one")
    assert {split: len(data) for split, data in open_columns(tmp_path / "one", None).items()} == {"train": 3}
    assert list(open_columns(tmp_path / "split", None)) == ["dev"]
    assert list(open_columns(tmp_path, tmp_path / "cache")) == ["train"]


def test_only_a_name_that_says_so_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str | None]] = []

    def load_dataset(name: str, cache_dir: str | None) -> dict[str, datasets.Dataset]:
        asked.append((name, cache_dir))
        return {"train": demo()}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(open_columns(Path("hf:owner/name"), tmp_path)["train"]) == 3
    assert asked == [("owner/name", str(tmp_path))]


@pytest.mark.faults
def test_data_that_can_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"expected a data set that `datasets` can open, got: \w+: .*; download what"):
        open_columns(tmp_path, tmp_path / "cache")
    with pytest.raises(DataError, match=r"hf:owner/none: expected a data set that `datasets` can open, got: \w+"):
        open_columns(Path("hf:owner/none"), tmp_path / "cache")
