"""Data sets in Hugging Face's columns: a folder of parquet files, a saved data set, or a name on the hub.

All are read through ``datasets`` as memory-mapped Arrow files (any row by its number, pages shared by all workers), or
out of their parquet files as these are (``mgie_lit.data.readers.parquet``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from mgie_lit.data.readers.encoded_images import decode_image, decode_mask, encoded_size
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL import Image

HUB_PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "state.json")  # written by `save_to_disk`
_SPLIT_NAME = re.compile(r"([A-Za-z]+)-\d+-of-\d+")


class Source(Protocol):
    """Rows of one split, images still encoded."""

    column_names: list[str]

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def value(self, position: int, name: str) -> Any:  # noqa: ANN401
        """What is in a column of a row."""
        ...

    def texts(self, names: Sequence[str], positions: range) -> dict[str, list[Any]]:
        """Values of columns without images, of neighbouring rows."""
        ...


class ArrowRows:
    """Rows of a data set of ``datasets``, mapped from its files.

    Args:
        dataset: Of ``datasets``; its images are not decoded.
    """

    def __init__(self, dataset: Any) -> None:  # noqa: ANN401
        import datasets

        for name, feature in dataset.features.items():
            if isinstance(feature, datasets.Image):
                dataset = dataset.cast_column(name, datasets.Image(decode=False))
        self.column_names: list[str] = dataset.column_names
        self._dataset = dataset

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._dataset)

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""
        return str(self._dataset._fingerprint)

    def value(self, position: int, name: str) -> Any:  # noqa: ANN401
        """What is in a column of a row."""
        return self._dataset[position : position + 1][name][0]

    def texts(self, names: Sequence[str], positions: range) -> dict[str, list[Any]]:
        """Values of columns without images, of neighbouring rows."""
        batch = self._dataset.select_columns(list(names))[positions.start : positions.stop]
        return {name: batch[name] for name in names}


class Columns:
    """One split of a data set in columns, by our names of them.

    Args:
        source: Where rows come from.
        aliases: Our name of a column -> names that it may have; one of them has to be there, or it is optional.
        optional: Our names of columns that may be missing.
        where: Where the data come from, for messages.

    Raises:
        DataError: A column is missing.
    """

    def __init__(
        self,
        source: Source,
        aliases: Mapping[str, Sequence[str]],
        *,
        optional: Sequence[str] = (),
        where: str,
    ) -> None:
        self.source = source
        self.where = where
        self.names: dict[str, str] = {}
        for name, known in aliases.items():
            found = next((alias for alias in known if alias in source.column_names), None)
            if found is not None:
                self.names[name] = found
            elif name not in optional:
                raise DataError(
                    f"{where}: expected a column {' or '.join(known)}, got {', '.join(source.column_names)}; "
                    "is it the right data set?"
                )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.source)

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""
        return f"{self.source.fingerprint} {len(self)} {sorted(self.names.items())}"

    def texts(self, names: Sequence[str], positions: range) -> list[dict[str, Any]]:
        """Values of columns without images.

        Args:
            names: Ours; those that are not there are left out.
            positions: Of the rows.

        Returns:
            A dict a row.
        """
        there = {self.names[name]: name for name in names if name in self.names}
        batch = self.source.texts(list(there), positions)
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
        value = self.source.value(position, self.names[name])
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


def open_columns(root: Path, cache_dir: Path | None) -> dict[str, ArrowRows]:
    """Splits of a data set, by their names there.

    Args:
        root: A folder, or ``hf:<owner>/<name>``; only the latter may download.
        cache_dir: Where the Arrow files go; None = where ``datasets`` keeps its own.

    Returns:
        Split -> rows.

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
    splits = found if isinstance(found, dict) else {"train": found}
    return {split: ArrowRows(dataset) for split, dataset in splits.items()}


def check_parquet(root: Path, option: str) -> None:
    """Make sure that there is something to stream.

    Args:
        root: A folder, or ``hf:<owner>/<name>``, where nobody looks yet.
        option: Config key of streaming, for the message.

    Raises:
        ConfigError: The folder has no parquet files.
    """
    if not is_hub(str(root)) and not _parquet_files(root):
        raise ConfigError(
            f"{option}: expected parquet files in {root} or its data/, got none; other layouts are read at their "
            f"places anyway, use {option}=false"
        )


def parquet_sources(root: Path, option: str) -> dict[str, list[str]]:
    """Parquet files of a data set, by split; nothing of them is downloaded.

    Args:
        root: A folder, or ``hf:<owner>/<name>``, which ``datasets`` resolves into the files of its present commit.
        option: Config key of streaming, for messages.

    Returns:
        Split -> paths or URLs.

    Raises:
        ConfigError: The hub's data set has files of another kind.
        DataError: The hub can not be asked.
    """
    if not is_hub(str(root)):
        return _by_split(_parquet_files(root))
    import datasets

    try:
        found = datasets.load_dataset_builder(str(root).removeprefix(HUB_PREFIX)).config.data_files or {}
    except Exception as error:  # `datasets` raises what its many parts raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{root}: expected a data set on the hub, got: {reason}; check its name, the network, and that "
            "HF_HUB_OFFLINE is not set, or give a folder with its parquet files as data.root"
        ) from error
    splits = {str(split): [str(file) for file in files] for split, files in found.items()}
    others = [file for files in splits.values() for file in files if not file.endswith(".parquet")]
    if others or not splits:
        raise ConfigError(
            f"{option}: expected parquet files in {root}, got {others[0] if others else 'none'}; use {option}=false"
        )
    return splits


def _parquet_files(root: Path) -> list[Path]:
    return sorted([*root.glob("*.parquet"), *root.glob("data/*.parquet")])


def _by_split(files: Sequence[Path]) -> dict[str, list[str]]:
    """Files by the split in their names (``dev-00000-of-00004-<hash>.parquet``); without one they are ``train``."""
    splits: dict[str, list[str]] = {}
    for file in files:
        named = _SPLIT_NAME.match(file.name)
        splits.setdefault(named[1] if named else "train", []).append(str(file))
    return splits
