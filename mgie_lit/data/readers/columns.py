"""Data sets in Hugging Face's columns: a folder of parquet files, a saved data set, or a name on the hub.

All are read through ``datasets`` as memory-mapped Arrow files: any row by its number, pages shared by all workers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mgie_lit.data.readers.encoded_images import decode_image, decode_mask, encoded_size
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL import Image

HUB_PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "state.json")  # written by `save_to_disk`
_SPLIT_NAME = re.compile(r"([A-Za-z]+)-\d+-of-\d+")


class Columns:
    """One split of a data set in columns, images still encoded.

    Args:
        dataset: Of ``datasets``.
        aliases: Our name of a column -> names that it may have; one of them has to be there, or it is optional.
        optional: Our names of columns that may be missing.
        where: Where the data come from, for messages.

    Raises:
        DataError: A column is missing.
    """

    def __init__(
        self,
        dataset: Any,  # noqa: ANN401
        aliases: Mapping[str, Sequence[str]],
        *,
        optional: Sequence[str] = (),
        where: str,
    ) -> None:
        import datasets

        self.where = where
        self.names: dict[str, str] = {}
        for name, known in aliases.items():
            found = next((alias for alias in known if alias in dataset.column_names), None)
            if found is not None:
                self.names[name] = found
            elif name not in optional:
                raise DataError(
                    f"{where}: expected a column {' or '.join(known)}, got {', '.join(dataset.column_names)}; "
                    "is it the right data set?"
                )
        for name, feature in dataset.features.items():
            if isinstance(feature, datasets.Image):
                dataset = dataset.cast_column(name, datasets.Image(decode=False))
        self._dataset = dataset

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._dataset)

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""
        return f"{self._dataset._fingerprint} {len(self)} {sorted(self.names.items())}"

    def texts(self, names: Sequence[str], positions: range) -> list[dict[str, Any]]:
        """Values of columns without images.

        Args:
            names: Ours; those that are not there are left out.
            positions: Of the rows.

        Returns:
            A dict a row.
        """
        there = {self.names[name]: name for name in names if name in self.names}
        batch = self._dataset.select_columns(list(there))[positions.start : positions.stop]
        return [
            dict(zip(there.values(), values, strict=True))
            for values in zip(*(batch[key] for key in there), strict=True)
        ]

    def image(self, position: int, name: str) -> Image.Image:
        """RGB image in a column."""
        return decode_image(*self._encoded(position, name))

    def size(self, position: int, name: str) -> tuple[int, int]:
        """Width and height in pixels of an image in a column, from its header."""
        return encoded_size(*self._encoded(position, name))

    def mask(self, position: int, name: str, size: tuple[int, int]) -> Image.Image:
        """Mask in a column, at the source's size."""
        data, where = self._encoded(position, name)
        return decode_mask(data, size, where)

    def _encoded(self, position: int, name: str) -> tuple[bytes, str]:
        where = f"{self.where}, row {position}, {self.names[name]}"
        value = self._dataset[position : position + 1][self.names[name]][0]
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(
                f"{where}: expected the bytes of an image, got {type(value).__name__}; is it the right column?"
            )
        return data, where


def is_columns(root: Path) -> bool:
    """Whether a folder (or the name of a hub's data set) holds columns."""
    return is_hub(str(root)) or any((root / name).is_file() for name in _SAVED) or bool(_parquet_files(root))


def is_hub(root: str) -> bool:
    """Whether the user asked for a data set on the hub."""
    return root.startswith(HUB_PREFIX)


def open_columns(root: Path, cache_dir: Path | None) -> dict[str, Any]:
    """Splits of a data set, by their names there.

    Args:
        root: A folder, or ``hf:<owner>/<name>``; only the latter may download.
        cache_dir: Where the Arrow files go; None = where ``datasets`` keeps its own.

    Returns:
        Split -> data set of ``datasets``.

    Raises:
        DataError: It can not be opened.
    """
    import datasets

    cache = None if cache_dir is None else str(cache_dir)
    try:
        if is_hub(str(root)):
            found = datasets.load_dataset(str(root).removeprefix(HUB_PREFIX), cache_dir=cache)
        elif any((root / name).is_file() for name in _SAVED):
            found = datasets.load_from_disk(str(root))
        else:
            found = datasets.load_dataset("parquet", data_files=_by_split(_parquet_files(root)), cache_dir=cache)
    except Exception as error:  # `datasets` raises what its many parts raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{root}: expected a data set that `datasets` can open, got: {reason}; download what is "
            "missing or damaged again"
        ) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _parquet_files(root: Path) -> list[Path]:
    return sorted([*root.glob("*.parquet"), *root.glob("data/*.parquet")])


def _by_split(files: Sequence[Path]) -> dict[str, list[str]]:
    """Files by the split in their names (``dev-00000-of-00004-<hash>.parquet``); without one they are ``train``."""
    splits: dict[str, list[str]] = {}
    for file in files:
        named = _SPLIT_NAME.match(file.name)
        splits.setdefault(named[1] if named else "train", []).append(str(file))
    return splits
