"""Sizes of buckets, which one a picture gets, and how it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgie_lit.data.buckets import BucketTransform, bucket_sizes
from mgie_lit.errors import ConfigError
from mgie_lit.types import EditExample

BUCKETS = bucket_sizes(64, 2.0, 8)
SIDES = st.integers(1, 400)


def kept(size: tuple[int, int], bucket: tuple[int, int]) -> float:
    """Share of the pixels that is left after a cut to the shape of the bucket."""
    width, height = size
    return min(width, height * bucket[0] / bucket[1]) * min(height, width * bucket[1] / bucket[0]) / (width * height)


@given(squares=st.integers(2, 16), multiple=st.sampled_from([8, 16, 64]), max_aspect=st.floats(2, 6, allow_nan=False))
def test_sizes_fit_the_editor_and_the_memory(squares: int, multiple: int, max_aspect: float) -> None:
    resolution = squares * multiple
    try:
        sizes = bucket_sizes(resolution, max_aspect, multiple)
    except ConfigError:
        assert squares < 4, "a large square has others beside it"
        return
    assert (resolution, resolution) in sizes
    assert {(height, width) for width, height in sizes} == set(sizes)
    assert len(set(sizes)) == len(sizes) >= 3
    for width, height in sizes:
        assert width % multiple == height % multiple == 0
        assert max(width, height) <= max_aspect * min(width, height)
        assert abs(width * height - resolution**2) <= min(width, height) * multiple / 2


@given(width=SIDES, height=SIDES)
def test_the_chosen_bucket_cuts_least(width: int, height: int) -> None:
    transform = BucketTransform(BUCKETS)
    chosen = BUCKETS[int(transform.choose(np.array([[width, height]]))[0])]
    assert kept((width, height), chosen) == pytest.approx(max(kept((width, height), size) for size in BUCKETS))


@given(width=SIDES, height=SIDES, target=st.tuples(SIDES, SIDES))
def test_all_images_get_the_size_of_the_source_bucket(width: int, height: int, target: tuple[int, int]) -> None:
    transform = BucketTransform(BUCKETS)
    example = EditExample(
        "row", Image.new("RGB", (width, height)), Image.new("RGB", target), "", mask=Image.new("L", (width, height))
    )
    cut = transform(example)
    expected = BUCKETS[int(transform.choose(np.array([(width, height)]))[0])]
    assert cut.target is not None
    assert cut.mask is not None
    assert cut.source.size == cut.target.size == cut.mask.size == expected


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (110, 50), (64, 64), (300, 20)])
def test_source_target_and_mask_move_together(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    source = Image.fromarray(pixels)
    mask = Image.new("L", size)
    mask.paste(255, (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    changed = Image.composite(Image.eval(source, lambda value: 255 - value), source, mask)
    cut = BucketTransform(BUCKETS)(EditExample("row", source, changed, "", mask=mask))
    differs = (np.asarray(cut.source) != np.asarray(cut.target)).any(axis=-1)
    assert differs.any()
    assert not (differs & (np.asarray(cut.mask) == 0)).any()


def test_a_picture_of_a_bucket_is_untouched() -> None:
    example = EditExample("row", Image.new("RGB", (48, 88)), Image.new("RGB", (48, 88)), "")
    cut = BucketTransform(BUCKETS)(example)
    assert cut.source is example.source
    assert cut.target is example.target


@pytest.mark.faults
def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(
        ConfigError, match=r"size.resolution: expected a multiple of 64 pixels with data.max_aspect, got"
    ):
        bucket_sizes(250, 2.0, 64)
    with pytest.raises(
        ConfigError, match=r"data.max_aspect: expected at least 1.67 at 256 pixels .* got 1.5: there is"
    ):
        bucket_sizes(256, 1.5, 64)
    with pytest.raises(ConfigError, match=r"data.max_aspect: expected at least inf at 64 pixels"):
        bucket_sizes(64, 9.0, 64)
