"""How folders of edited images name their files."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, Literal, get_args

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Layout = Literal["ids", "magicbrush"]
Turns = Literal["given", "chain"]
MAGICBRUSH_FOLDER = "magicbrush"  # inside an evaluation
_TURN_ID = re.compile(r"(?P<session>.+)-(?P<turn>[1-9]\d*)")


def check_choices(layout: str, turns: str) -> None:
    """Refuse names that are not known.

    Args:
        layout: One of :data:`Layout`.
        turns: One of :data:`Turns`.

    Raises:
        ConfigError: A name is unknown; the message lists those that are.
    """
    for key, value, known in (("predictions_layout", layout, get_args(Layout)), ("turns", turns, get_args(Turns))):
        if value not in known:
            raise ConfigError(f"{key}: expected one of {', '.join(known)}, got {value!r}; use one of these")


def file_stem(sample_id: str, *, layout: str, turns: str, seed: int | None) -> str:
    """Where a folder has the edit of a sample, as a path without suffix relative to the folder.

    Args:
        sample_id: Of the data set.
        layout: ``ids``: ``<id>``, and ``seed-<seed>/<id>`` for all seeds but the first. ``magicbrush``: the names of
            MagicBrush's published evaluation, ``<session>/<session>_1`` for first turns, and for later ones
            ``_inde_<turn>`` (edited from their true sources) or ``_iter_<turn>`` (from the system's own output).
        turns: ``given`` or ``chain``: which of the two later ones are.
        seed: None = the first.

    Returns:
        The path, with ``/`` between folders.

    Raises:
        ConfigError: An id names no session and turn, or the layout has no place for a second seed.

    >>> file_stem("17", layout="ids", turns="given", seed=4)
    'seed-4/17'
    >>> file_stem("17-2", layout="magicbrush", turns="chain", seed=None)
    '17/17_iter_2'
    """
    if layout == "ids":
        return sample_id if seed is None else f"seed-{seed}/{sample_id}"
    if seed is not None:
        raise ConfigError("num_seeds: expected 1 with predictions_layout=magicbrush, which has one edit a turn")
    match = _TURN_ID.fullmatch(sample_id)
    if match is None:
        raise ConfigError(
            f"predictions_layout: expected ids <session>-<turn> for magicbrush, as data=magicbrush has them, got "
            f"{sample_id!r}; use predictions_layout=ids"
        )
    session, turn = match["session"], int(match["turn"])
    kind = {"given": "inde_", "chain": "iter_"}[turns] if turn > 1 else ""
    return f"{session}/{session}_{kind}{turn}"


def write_magicbrush(images: Sequence[tuple[str, Path]], folder: Path, *, turns: str) -> None:
    """Lay edited images out as MagicBrush's published evaluation reads them.

    Files are linked where the file system can. Laying out the images of ``turns=given`` and of ``turns=chain`` in one
    folder gives both kinds that the published script asks for.

    Args:
        images: Sample id (``<session>-<turn>``) and PNG file of each.
        folder: Where to; made if it is not there. Files in it are replaced.
        turns: ``given`` or ``chain``.

    Raises:
        ConfigError: An id names no session and turn.
    """
    stems = [file_stem(name, layout="magicbrush", turns=turns, seed=None) for name, _ in images]
    for stem, (_, image) in zip(stems, images, strict=True):
        place = folder / f"{stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            os.link(image, place)
        except OSError:  # a file system without hard links
            shutil.copyfile(image, place)
