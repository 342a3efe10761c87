"""The data sets that a config names, for a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_READERS = "mgie_lit.data.readers."


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Args:
        name: As in ``data=``.
        hub_id: Of its repository on the hub, where it has one.
        licence: In words, as docs/datasets.md has it.
    """

    name: str
    hub_id: str | None = None
    licence: str = "not known here"


_KNOWN = {
    one.name: one
    for one in (
        DataSet("ipr2pr", "timbrooks/instructpix2pix-clip-filtered", "MIT, and Stable Diffusion's terms"),
        DataSet("magicbrush", "osunlp/MagicBrush", "CC-BY-4.0"),
        DataSet("evr", None, "none given"),
        DataSet("gier", None, "none given"),
        DataSet("ma5k", None, "none given for the requests; FiveK's own for the photographs"),
        DataSet(
            "photo_edits", None, "made by the code out of photographs that ship with scikit-image and scikit-learn"
        ),
    )
}


def data_sets_of(data: Any) -> list[DataSet]:  # noqa: ANN401 - a node of a config, plain containers
    """Data sets whose readers a config's node ``data`` builds.

    Args:
        data: Plain containers.

    Returns:
        Each once, in the order of the config.
    """
    names = dict.fromkeys(_reader_names(data))
    own_photographs = isinstance(data, Mapping) and data.get("root") is not None and set(names) == {"photo_edits"}
    if own_photographs:
        return [DataSet("photo_edits", None, "made by the code out of photographs of whoever trained it")]
    return [_KNOWN.get(name, DataSet(name)) for name in names]


def known_data_sets(*names: str) -> list[DataSet]:
    """Data sets by the names of ``data=``."""
    return [_KNOWN[name] for name in names]


def _reader_names(node: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str) and target.startswith(_READERS):
            yield target.removeprefix(_READERS).partition(".")[0]
        for value in node.values():
            yield from _reader_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _reader_names(value)
