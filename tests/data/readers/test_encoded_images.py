from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.readers.encoded_images import decode_base64, decode_image, decode_mask
from mgie_lit.errors import DataError
from mgie_lit.testing.datasets.pictures import encoded, source_picture


def test_pixels_and_orientation() -> None:
    picture = source_picture(3, (20, 12))
    assert decode_image(encoded(picture), "").tobytes() == picture.tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    assert decode_image(buffer.getvalue(), "").tobytes() == picture.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_modes_become_rgb() -> None:
    assert decode_image(encoded(Image.new("RGBA", (2, 2), (9, 9, 9, 0))), "").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(Image.new("CMYK", (8, 8)), "JPEG"), "").mode == "RGB"


def test_mask_is_brought_to_the_source_size() -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    assert np.asarray(decode_mask(encoded(picture), (4, 1), "")).tolist() == [[255, 255, 0, 0]]


def _huge_header() -> bytes:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"row 3: expected an image, got nothing \(0 bytes\)"),
        (b"not a picture", r"row 3: expected an image, got 13 bytes in no format that Pillow knows"),
        (encoded(source_picture(1, (64, 64)))[:120], r"row 3: expected (a whole )?image.*damaged"),
        (_huge_header(), r"row 3: expected at most 150000000 pixels, got far more"),
    ],
)
def test_bytes_that_are_no_image(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image(data, "row 3")


@pytest.mark.faults
def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.data.readers.encoded_images.MAX_PIXELS", 10)
    with pytest.raises(DataError, match=r"row 3: expected at most 10 pixels, got 5 x 4; make it smaller"):
        decode_image(encoded(source_picture(1, (5, 4))), "row 3")


def test_base64() -> None:
    assert decode_base64(base64.b64encode(b"abc"), "") == b"abc"
    with pytest.raises(DataError, match=r"byte 7: expected base64, got something else .*; the file is damaged"):
        decode_base64(b"a*c", "byte 7")
