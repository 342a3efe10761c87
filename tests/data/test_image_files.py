"""Every kind of image file decodes to the right RGB, or is refused with path, reason and remedy."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.image_files import open_image
from mgie_lit.errors import DataError

pytestmark = pytest.mark.faults


def _gradient(width: int = 12, height: int = 8) -> Image.Image:
    """Every pixel different, so that a turn or a flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 20, y * 30, x + y], axis=-1).astype(np.uint8))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm"])
def test_plain_rgb_is_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plain{suffix}"
    _gradient().save(path, lossless=True)  # only WebP looks at it
    image = open_image(path)
    assert image.mode == "RGB"
    assert np.array_equal(_pixels(image), _pixels(_gradient()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = {
        1: lambda upright: upright,
        2: lambda upright: upright[:, ::-1],
        3: lambda upright: upright[::-1, ::-1],
        4: lambda upright: upright[::-1],
        5: lambda upright: upright.transpose(1, 0, 2),
        6: lambda upright: np.rot90(upright, 1),
        7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
        8: lambda upright: np.rot90(upright, -1),
    }
    upright = np.asarray(_gradient())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored[orientation](upright))).save(path, exif=exif)
    assert np.array_equal(_pixels(open_image(path)), upright.astype(int))


def test_exif_rotated_jpeg_gets_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "portrait.jpg"
    _gradient(40, 24).save(path, exif=exif)
    assert open_image(path).size == (24, 40)


def test_damaged_exif_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "exif.jpg"
    _gradient(16, 8).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert open_image(path).size == (16, 8)


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert _pixels(open_image(path)).tolist() == [[[200, 0, 0], [255, 255, 255], [244, 204, 204]]]


def test_gray_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "la.png"
    image = Image.new("LA", (2, 1))
    image.putdata([(100, 255), (100, 0)])
    image.save(path)
    assert _pixels(open_image(path)).tolist() == [[[100] * 3, [255] * 3]]


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path: Path, transparent: bool) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    path = tmp_path / "palette.png"
    image.save(path, transparency=1) if transparent else image.save(path)
    second = [255, 255, 255] if transparent else [200, 100, 50]
    assert _pixels(open_image(path)).tolist() == [[[10, 20, 30], second]]


def test_rgb_with_a_transparent_color(tmp_path: Path) -> None:
    path = tmp_path / "key.png"
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    image.save(path, transparency=(9, 9, 9))
    assert _pixels(open_image(path)).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)
    red = _pixels(open_image(path)).mean(axis=(0, 1))
    assert np.allclose(red, [255, 0, 0], atol=6)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(np.array([[0, 257 * 40, 257 * 128, 65535]], dtype=np.uint16)).save(path)
    assert _pixels(open_image(path))[0, :, 0].tolist() == [0, 40, 128, 255]


def test_a_dark_sixteen_bit_image_stays_dark(tmp_path: Path) -> None:
    path = tmp_path / "night.png"
    Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)).save(path)
    assert _pixels(open_image(path)).max() == 1


def test_sixteen_bit_rgb_png(tmp_path: Path) -> None:
    path = tmp_path / "rgb48.png"
    row = b"\x00" + struct.pack(">3H", 65535, 257 * 100, 0)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert _pixels(open_image(path)).tolist() == [[[255, 100, 0]]]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving{suffix}"
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)  # only WebP looks at it
    assert open_image(path).getpixel((3, 3)) == (255, 0, 0)


def test_wrong_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    _gradient().save(path, format="PNG")
    assert np.array_equal(_pixels(open_image(path)), _pixels(_gradient()))


def test_one_pixel(tmp_path: Path) -> None:
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (7, 8, 9)).save(path)
    assert _pixels(open_image(str(path))).tolist() == [[[7, 8, 9]]]


def test_twelve_megapixels(tmp_path: Path) -> None:
    path = tmp_path / "camera.jpg"
    Image.new("RGB", (4000, 3000), (90, 120, 30)).save(path)
    assert open_image(path).size == (4000, 3000)


def test_draft_decodes_smaller_but_not_below(tmp_path: Path) -> None:
    path = tmp_path / "camera.jpg"
    Image.new("RGB", (1600, 1200), (90, 120, 30)).save(path)
    width, height = open_image(path, draft_size=300).size
    assert (width, height) == (400, 300)


def test_result_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "gone.png"
    _gradient().save(path)
    image = open_image(path)
    path.unlink()
    assert np.array_equal(_pixels(image), _pixels(_gradient()))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=rf"cut{suffix}: expected (a whole|an) image, got .*(damaged|no format)"):
        open_image(path)


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png: expected an image file, got an empty one .*copy or download"):
        open_image(tmp_path / "empty.png")


def test_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture at all")
    with pytest.raises(DataError, match=r"notes\.jpg: expected an image, got a file in no format .*replace or remove"):
        open_image(tmp_path / "notes.jpg")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.png: expected an image file, got nothing .*check its spelling"):
        open_image(tmp_path / "nowhere.png")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected an image file, got a folder; name a file inside it"):
        open_image(tmp_path)


def test_too_many_pixels(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (40, 30)).save(path)
    with pytest.raises(
        DataError, match=r"wide\.png: expected at most 1000 pixels, got 40 x 30 = 1200; make it smaller"
    ):
        open_image(path, max_pixels=1000)


def test_decompression_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(DataError, match=r"bomb\.png: expected at most 150000000 pixels, got far more; make it smaller"):
        open_image(path)
