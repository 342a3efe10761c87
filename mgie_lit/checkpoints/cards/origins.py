"""Where the parts of an export come from, and what their owners allow, as far as a folder tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.cards.files import front_matter
from mgie_lit.checkpoints.json_files import CONFIG_FILE, read_json
from mgie_lit.errors import CheckpointError

UNKNOWN, OTHER = "unknown", "other"  # the hub's words for a licence that nobody named, and for one without an id
PARTS_KEY = "mgie_parts"  # of a card's front matter: the origins, so that they are handed on


@dataclass(frozen=True)
class Origin:
    """Where one part comes from.

    Args:
        part: What it is, e.g. ``unet``.
        source: Hub id, or the last name of a folder; no paths of a machine.
        licence: The hub's id of it, ``other`` or ``unknown``; None = nobody's but of who trained it.
        terms: The licence in words.
        evidence: How this is known.
        hub_id: ``owner/name`` where it is known.
    """

    part: str
    source: str
    licence: str | None
    terms: str
    evidence: str = ""
    hub_id: str | None = None


@dataclass(frozen=True)
class _Family:
    """Published weights that a name stands for: docs/models.md has the same in more words."""

    name: re.Pattern[str]  # of the folder or repository
    licence: str
    terms: str
    hub_ids: tuple[str, ...] = ()


_LLAMA = "LLaMA's licence: research, not commercial"
_FAMILIES = (
    _Family(
        re.compile(r"llava(-lightning)?-7b(-delta)?-v1(-1)?"),
        OTHER,
        f"research only: the terms of LLaVA, Vicuna and GPT-4, and {_LLAMA}",
        ("liuhaotian/LLaVA-Lightning-7B-delta-v1-1",),
    ),
    _Family(re.compile(r"vicuna-7b(-delta)?-v1\.1"), OTHER, _LLAMA, ("lmsys/vicuna-7b-delta-v1.1",)),
    _Family(re.compile(r"llama-?(7|13)b(-hf)?"), OTHER, _LLAMA),
    _Family(
        re.compile(r"clip-vit-(large|base)-patch\d+(-\d+)?"),
        OTHER,
        "MIT for the code; the owner's page has none for the weights",
        ("openai/clip-vit-large-patch14", "openai/clip-vit-base-patch32"),
    ),
    _Family(
        re.compile(r"stable-diffusion-v1-5"),
        "creativeml-openrail-m",
        "CreativeML OpenRAIL-M",
        ("stable-diffusion-v1-5/stable-diffusion-v1-5",),
    ),
    _Family(
        re.compile(r"instruct-pix2pix"),
        OTHER,
        "MIT for the repository, and CreativeML OpenRAIL-M, Stable Diffusion's",
        ("timbrooks/instruct-pix2pix",),
    ),
)
_APPLE = Origin(
    "word embeddings, LM head, edit head, unet",
    "apple/ml-mgie",
    OTHER,
    f"CC-BY-NC for Apple's rights in the differences; {_LLAMA}",
    "the format of the files",
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def apple_origin() -> Origin:
    """Of what Apple's two files hold."""
    return _APPLE


def trained_origin(parts: str) -> Origin:
    """Of what a training made from random weights, or changed.

    Args:
        parts: Which.

    Returns:
        An origin without a licence.
    """
    return Origin(parts, "this training", None, "whoever trained it chooses; none is set", "the run's config")


def origins_of(folder: Path, part: str) -> list[Origin]:
    """What a folder of weights says of where it comes from.

    An export's own card names all its parts. Any other folder is one origin: the licence is that of the card in it, or
    of the published weights whose name it has, or unknown.

    Args:
        folder: Of weights, or the name of one that is not at hand.
        part: What is taken from it.

    Returns:
        At least one origin.
    """
    matter = front_matter(folder)
    parts = matter.get(PARTS_KEY)
    if isinstance(parts, list) and parts:
        return [replace(_read(one), part=f"{part}: {one.get('part')}") for one in parts if isinstance(one, Mapping)]
    hub_id = _named_repository(folder)
    source = hub_id or folder.name or str(folder)
    if isinstance(licence := matter.get("license"), str):
        name = matter.get("license_name")
        words = f"{licence}, {name}" if name else licence
        return [Origin(part, source, licence, words, "its own card", hub_id)]
    for name in (source.rpartition("/")[2], folder.name):
        for family in _FAMILIES:
            if family.name.fullmatch(name.lower()):
                known = next((one for one in family.hub_ids if one.lower().endswith("/" + name.lower())), hub_id)
                return [Origin(part, known or source, family.licence, family.terms, "its name", known)]
    return [Origin(part, source, UNKNOWN, "unknown: the folder does not say", "", hub_id)]


def combined_licence(origins: Sequence[Origin]) -> str | None:
    """The hub's id of a licence for all parts together.

    Args:
        origins: Of all parts.

    Returns:
        The one that all have, ``unknown`` if one is, ``other`` for several; None where a training made all.
    """
    licences = {origin.licence for origin in origins if origin.licence is not None}
    if len(licences) > 1:
        return UNKNOWN if UNKNOWN in licences else OTHER
    return next(iter(licences), None)


def as_record(origin: Origin) -> dict[str, Any]:
    """Plain values for a card's front matter; what is empty is left out."""
    return {key: value for key, value in asdict(origin).items() if value}


def _read(record: Mapping[str, Any]) -> Origin:
    texts = {key: str(record.get(key, UNKNOWN)) for key in ("part", "source", "terms")}
    licence, hub_id = (None if record.get(key) is None else str(record[key]) for key in ("licence", "hub_id"))
    return Origin(**texts, licence=licence, evidence=str(record.get("evidence", "")), hub_id=hub_id)


def _named_repository(folder: Path) -> str | None:
    """Hub id that a folder's config names as its own."""
    try:
        name = read_json(folder / CONFIG_FILE).get("_name_or_path")
    except CheckpointError:
        return None
    return name if isinstance(name, str) and _HUB_ID.fullmatch(name) else None
