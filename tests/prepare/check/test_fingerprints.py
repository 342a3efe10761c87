from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mgie_lit.prepare.check.fingerprints import (
    NEAR_BITS,
    cells,
    largest_difference,
    look,
    mixed,
    near_pairs,
    pixel_hash,
    words_hash,
)


def photo(seed: int, size: tuple[int, int] = (192, 128)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def bits(value: int) -> int:
    return value.bit_count()


def test_pixel_hash_sees_one_pixel_and_the_shape() -> None:
    image = photo(0)
    other = image.copy()
    assert pixel_hash(image) == pixel_hash(other)
    other.putpixel((3, 4), (0, 1, 2))
    assert pixel_hash(image) != pixel_hash(other)
    assert pixel_hash(Image.new("RGB", (2, 8))) != pixel_hash(Image.new("RGB", (8, 2)))
    assert 0 < pixel_hash(image) < 2**64


def test_words_hash_ignores_case_and_blanks() -> None:
    assert words_hash("Make it  RED ") == words_hash("make it red")
    assert words_hash("make it red") != words_hash("make it blue")


def test_look_survives_scaling_and_compression_and_nothing_else() -> None:
    image = photo(1)
    for changed in (as_jpeg(image, 60), image.resize((96, 64), Image.Resampling.BICUBIC)):
        assert bits(look(cells(image)) ^ look(cells(changed))) <= NEAR_BITS
    assert bits(look(cells(image)) ^ look(cells(photo(2)))) > 10


def test_flat_pictures_have_no_look() -> None:
    assert look(cells(Image.new("RGB", (40, 40), (250, 250, 250)))) == 0


def test_largest_difference_finds_a_local_edit_and_not_noise() -> None:
    image = photo(3, (512, 512))
    assert largest_difference(cells(image), cells(as_jpeg(image, 90))) <= 2
    edited = image.copy()
    edited.paste((255, 0, 255), (100, 100, 116, 116))  # a thousandth of the picture
    assert largest_difference(cells(image), cells(edited)) > 20


def test_mixed_numbers_are_equal_for_equal_rows_only() -> None:
    first = np.array([1, 1, 2, 1], np.uint64)
    second = np.array([2, 2, 1, 3], np.uint64)
    keys = mixed(first, second)
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == 3


@pytest.mark.parametrize("flipped", [[], [0], [17, 18], [40, 63]])
def test_near_pairs_are_found_among_many(flipped: list[int]) -> None:
    rng = np.random.default_rng(5)
    looks = rng.integers(1, 2**64, 3000, dtype=np.uint64)
    twin = int(looks[7])
    for bit in flipped:
        twin ^= 1 << bit
    looks[2900] = twin
    assert list(near_pairs(looks)) == [(7, 2900)]


def test_pictures_without_a_look_are_near_nothing() -> None:
    assert list(near_pairs(np.zeros(5, np.uint64))) == []
    assert list(near_pairs(np.zeros(0, np.uint64))) == []
    assert list(near_pairs(np.array([3], np.uint64))) == []


def test_three_bits_are_not_near() -> None:
    assert list(near_pairs(np.array([0b1000, 0b1111], np.uint64))) == []
