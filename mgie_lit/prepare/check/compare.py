"""What examples have in common: duplicates within a split, leaks from one split into another."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mgie_lit.prepare.check.findings import Finding
from mgie_lit.prepare.check.fingerprints import mixed, near_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mgie_lit.prepare.check.examine import Examined

IMAGES = ("source", "target")


def duplicates(split: str, seen: Examined) -> Iterator[Finding]:
    """Examples of a split that repeat an earlier one.

    ``duplicate``: the same pixels in source and target and the same words; ``repeated_pair``: the same pixels, other
    words, as where several people described one edit; ``near_duplicate``: other pixels that look the same in both.

    Args:
        split: Its name.
        seen: All of its examples.

    Yields:
        One finding for each example, at most.
    """
    prints, ids = seen.prints, seen.sample_ids
    places = np.flatnonzero((prints["source"] != 0) & (prints["target"] != 0))
    pairs = mixed(prints["source"][places], prints["target"][places])
    whole = mixed(pairs, prints["words"][places])
    first_whole, first_pair = places[_first(whole)], places[_first(pairs)]
    for place, same, alike in zip(places.tolist(), first_whole.tolist(), first_pair.tolist(), strict=True):
        if same != place:
            yield Finding(ids[place], split, "duplicate", f"same pixels and words as {ids[same]}")
        elif alike != place:
            yield Finding(ids[place], split, "repeated_pair", f"same pixels as {ids[alike]}, other words")
    reported: set[int] = set()
    for first, second in near_pairs(prints["source_look"]):
        one, other = prints[first], prints[second]
        if second not in reported and one["source"] != other["source"] and _looks_alike(one, other):
            reported.add(second)
            yield Finding(ids[second], split, "near_duplicate", f"looks like {ids[first]}")


def leaks(seen: Mapping[str, Examined]) -> Iterator[Finding]:
    """Images that two splits share.

    A finding stands at the example of the split that comes first in training, validation, test: leaving it out mends
    the leak.

    Args:
        seen: All examples by split, in this order.

    Yields:
        ``leak`` for the same pixels, ``near_leak`` for other pixels that look the same, ``undivided`` where two splits
        hold the same examples.
    """
    for split, other in combinations(seen, 2):
        shared = set(seen[split].sample_ids) & set(seen[other].sample_ids)
        if not seen[split].sample_ids or not seen[other].sample_ids:
            continue
        if shared:
            detail = f"{len(shared)} examples are in {split} and in {other}: scores on them mean nothing"
            yield Finding("", split, "undivided", detail)
        else:
            yield from _exact_leaks(split, seen[split], other, seen[other])
            yield from _near_leaks(split, seen[split], other, seen[other])


def _exact_leaks(split: str, seen: Examined, other: str, held_out: Examined) -> Iterator[Finding]:
    theirs = np.concatenate([held_out.prints[image] for image in IMAGES])
    order = np.argsort(theirs, kind="stable")
    ours = np.stack([seen.prints[image] for image in IMAGES])  # (2, N)
    ranks = np.searchsorted(theirs[order], ours).clip(max=len(theirs) - 1)
    hits = (theirs[order][ranks] == ours) & (ours != 0)
    for place in np.flatnonzero(hits.any(axis=0)).tolist():
        image = int(np.flatnonzero(hits[:, place])[0])
        kind, number = divmod(int(order[ranks[image, place]]), len(held_out.sample_ids))
        detail = f"its {IMAGES[image]} has the pixels of the {IMAGES[kind]} of {held_out.sample_ids[number]} in {other}"
        yield Finding(seen.sample_ids[place], split, "leak", detail)


def _near_leaks(split: str, seen: Examined, other: str, held_out: Examined) -> Iterator[Finding]:
    count = len(seen.sample_ids)
    looks = np.concatenate([seen.prints["source_look"], held_out.prints["source_look"]])
    pixels = np.concatenate([seen.prints["source"], held_out.prints["source"]])
    reported: set[int] = set()
    for first, second in near_pairs(looks):
        if first < count <= second and first not in reported and pixels[first] != pixels[second]:
            reported.add(first)
            detail = f"its source looks like that of {held_out.sample_ids[second - count]} in {other}"
            yield Finding(seen.sample_ids[first], split, "near_leak", detail)


def _first(keys: np.ndarray) -> np.ndarray:
    """For each key the position of the first that equals it."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    positions: np.ndarray = first[inverse]
    return positions


def _looks_alike(one: np.void, other: np.void) -> bool:
    """Whether the targets look the same, too."""
    return next(near_pairs(np.array([one["target_look"], other["target_look"]])), None) is not None
