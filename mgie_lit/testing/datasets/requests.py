"""Synthetic EVR, GIER and MA5k: requests of people about photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mgie_lit.data.readers.masks import encode_run_lengths
from mgie_lit.testing.datasets.pictures import (
    disc_mask,
    edited_picture,
    locally_edited,
    save,
    source_picture,
    words,
    write_json,
)

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = ("jpg", "png", "JPG", "jpeg", "gif")  # of EVR
_GIER_OPERATORS: tuple[dict[str, Any], ...] = (
    {"brightness": {"local": False, "ids": []}, "gaussain_blur": {"local": False, "ids": []}},
    {"inpaint_obj": {"local": True, "ids": [1]}},
    {"black&white": {"local": True, "ids": [0, 1]}, "color_bg": {"local": True, "ids": [1]}},
    {"tint": {"local": True, "ids": [0]}, "contrast": {"local": False, "ids": []}},
    {"lightness": {"local": True, "ids": []}},
)


def write_evr(root: Path, *, num_pairs: int = 8) -> None:
    """One sentence a pair in training, three in validation and test; some photographs are edited twice.

    Args:
        root: Folder to write, images in ``images/``.
        num_pairs: Of training; validation and test have half of it.
    """
    number = 0
    for name, count, num_sentences in (
        ("train", num_pairs, 1),
        ("valid", num_pairs // 2, 3),
        ("test", num_pairs // 2, 3),
    ):
        entries = []
        for index in range(count):
            photo = f"Reddit.com_{name}{index // 2}"
            suffix = SUFFIXES[number % len(SUFFIXES)]
            source, target = (
                f"{photo}_{photo[-4:]}.{SUFFIXES[index // 2 % len(SUFFIXES)]}",
                f"{photo}_d{index}.{suffix}",
            )
            picture = source_picture(number - index % 2)
            save(picture, root / "images" / source)
            save(edited_picture(picture, number), root / "images" / target)
            sentences = [f"{words(number)}{' please' * extra} " for extra in range(num_sentences)]
            site = ("Reddit", "Zhopped")[index % 2]
            entries.append({"img0": source, "img1": target, "sents": sentences, "uid": f"{site}_{1000 + number}"})
            number += 1
        write_json(entries, root / f"{name}.json")


def write_gier(root: Path, *, num_pairs: int = 10) -> None:
    """Expert and amateur summaries, bare ``NaN``, masks as run lengths, targets of other sizes than their sources.

    Args:
        root: Folder to write: ``splits/``, ``images/`` and ``masks/``.
        num_pairs: Of training; validation and test have half of it.
    """
    number = 0
    for split, count in (("train", num_pairs), ("val", num_pairs // 2), ("test", num_pairs // 2)):
        entries = []
        for _ in range(count):
            entries.append(_write_request(root, f"{split}{number}", number))
            number += 1
        write_json(entries, root / "splits" / f"{split}_sess_3.json")


def write_ma5k(root: Path, *, num_photos: int = 10) -> None:
    """Each photograph retouched by five experts; a tenth of the photographs is for validation, a fifth for test.

    Args:
        root: Folder to write: ``FiveK.json``, ``annotations/`` and ``images/``.
        num_photos: At least 10.
    """
    entries = []
    for number in range(num_photos):
        photo = f"{number + 1:04d}"
        picture = source_picture(number, (30, 20))
        save(picture, root / "images" / f"{photo}_O.jpg")
        for expert, letter in enumerate("ABCDE"):
            save(edited_picture(picture, expert), root / "images" / f"{photo}_{letter}.jpg")
            request = words(5 * number + expert)
            entries.append({"input": f"{photo}_O.jpg", "output": f"{photo}_{letter}.jpg", "request": request})
    write_json(entries, root / "FiveK.json")
    for split, (first, last) in {
        "val": (0, num_photos // 10),
        "test": (num_photos // 10, 3 * num_photos // 10),
    }.items():
        held_out = [{**entry, "request_idx": [1, 18, 2, 0]} for entry in entries[5 * first : 5 * last]]
        write_json(held_out, root / "annotations" / f"{split}_sess_1.json")


def _write_request(root: Path, name: str, number: int) -> dict[str, Any]:
    size = (24 + 2 * (number % 4), 20)
    source, target = f"{name}_{name}.jpg", f"{name}_x{number}.{('jpg', 'png')[number % 2]}"
    picture = source_picture(number, size)
    save(picture, root / "images" / source)
    operators = _GIER_OPERATORS[number % len(_GIER_OPERATORS)]
    edited = edited_picture(picture, number)
    if all(use["local"] and use["ids"] == [1] for use in operators.values()):
        edited = locally_edited(picture, number, disc_mask(number, size))
    save(edited.resize((18, 15)) if number % 3 == 0 else edited, root / "images" / target)
    write_json(_regions(number, size), root / "masks" / f"{name}_{name}_mask.json")
    return {
        "input": source,
        "output": target,
        "segment": f"{name}/{name}.jpg",
        "palette": f"{name}/{name}plt.jpg",
        "request": f"could someone {words(number)}?",
        "detailed_request": float("nan") if number % 2 else "more of it",
        "dataset": ("reddit", "zhopped")[number % 2],
        "workerId": "W0",
        "operator": operators,
        "expert_summary": [words(number), f"please {words(number)}"][: 2 - number % 2],
        "amateur_summary": [f"{words(number)}, said an amateur"] * (1 + number % 3) if number % 5 else [],
    }


def _regions(number: int, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Background and disc, at twice the size of the photograph."""
    inside = np.asarray(disc_mask(number, size).resize((2 * size[0], 2 * size[1]), Image.Resampling.NEAREST)) > 0
    return [encode_run_lengths(~inside), encode_run_lengths(inside)]
