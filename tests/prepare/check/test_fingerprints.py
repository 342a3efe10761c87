from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from mgie_lit.prepare.check.fingerprints import (
    NEAR_BITS,
    cells,
    is_compression,
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


SIZES = (64, 128, 256, 512)
PHOTOGRAPHS = ("astronaut", "coffee", "rocket")


def photograph(name: str, side: int) -> Image.Image:
    image = Image.fromarray(getattr(skimage.data, name)())
    square = min(image.size)
    return image.crop((0, 0, square, square)).resize((side, side), Image.Resampling.BICUBIC)


def is_same(first: Image.Image, second: Image.Image) -> bool:
    return is_compression(first, second, quality=75, least=2)


@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_compression_is_told_from_subtle_edits(name: str, side: int) -> None:
    source = photograph(name, side)
    saved = as_jpeg(source, 90)
    assert is_same(source, saved)
    assert is_same(saved, source)
    assert largest_difference(cells(source), cells(saved)) > 2, "fixed limits would not do"
    brighter = source.point(lambda value: min(round(1.04 * value), 255))
    assert not is_same(source, brighter)
    assert not is_same(source, as_jpeg(brighter, 90))


@pytest.mark.parametrize("change", [-20, 20])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_small_patch_of_a_large_picture_is_an_edit(name: str, change: int) -> None:
    source = photograph(name, 512)
    edited = source.copy()
    patch = source.crop((200, 136, 216, 152))
    edited.paste(patch.point(lambda value: value + change), (200, 136))
    assert np.abs(np.asarray(edited, int) - np.asarray(source, int)).max() > 10
    assert not is_same(source, edited)
    assert not is_same(source, as_jpeg(edited, 90))
