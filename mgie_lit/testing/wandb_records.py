"""What wandb has written to disk: its file of records, which is a LevelDB log of protocol buffers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE_HEADER, _BLOCK, _RECORD_HEADER = 7, 32768, 7  # bytes
_WHOLE, _LAST = 1, 4  # kinds of a record's piece; first and middle ones lie between


def records(path: Path) -> Iterator[Any]:
    """Records of a ``run-<id>.wandb`` file, in order.

    Args:
        path: The file; its end may be missing.

    Yields:
        ``wandb.proto`` records.
    """
    from wandb.proto import wandb_internal_pb2

    data, position, pieces = path.read_bytes(), _FILE_HEADER, b""
    while position + _RECORD_HEADER <= len(data):
        if _BLOCK - position % _BLOCK < _RECORD_HEADER:  # the rest of a block is empty
            position += _BLOCK - position % _BLOCK
            continue
        size = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]
        pieces += data[position + _RECORD_HEADER : position + _RECORD_HEADER + size]
        position += _RECORD_HEADER + size
        if kind in (_WHOLE, _LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(pieces)
            pieces = b""
            yield record


def history(path: Path) -> list[dict[str, Any]]:
    """Rows that were logged, with ``_step``, in order."""
    return [_values(record.history.item) for record in records(path) if record.HasField("history")]


def run_config(path: Path) -> dict[str, Any]:
    """Config of the run."""
    return {key: value for record in records(path) if record.HasField("run") for key, value in _config(record).items()}


def _config(record: Any) -> dict[str, Any]:  # noqa: ANN401
    return _values(record.run.config.update)


def _values(items: Any) -> dict[str, Any]:  # noqa: ANN401
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
