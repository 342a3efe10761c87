from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mgie_lit.demo.limits import Limits
from mgie_lit.demo.studio import Studio
from mgie_lit.errors import ConfigError, DataError


def test_saved_pictures_open_again_and_go_with_the_folder(studio: Studio) -> None:
    path = studio.files.save(Image.new("RGB", (5, 3), "red"))
    assert path.is_relative_to(studio.files.folder)
    assert studio.files.open(path).size == (5, 3)
    studio.files.close()
    assert not studio.files.folder.exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "{folder}/../x.png", "{folder}/link.png"])
def test_other_files_are_refused(studio: Studio, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (studio.files.folder / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="expected a picture that was uploaded here"):
        studio.files.open(Path(name.format(folder=studio.files.folder)))


def test_what_is_no_picture(studio: Studio) -> None:
    path = studio.files.folder / "notes.png"
    path.write_text("no picture")
    with pytest.raises(DataError, match=r"^notes\.png: expected an image, got a file in no format"):
        studio.files.open(path)
    path.unlink()
    with pytest.raises(DataError, match=r"^notes\.png: is no longer here, pictures are kept for 12 h; upload it again"):
        studio.files.open(path)


def test_too_large(make_studio: Callable[..., Studio]) -> None:
    files = make_studio(megapixels=1, megabytes=1).files
    with pytest.raises(DataError, match=r"^edited\.png: expected at most 1000000 pixels, got 1001 x 1000"):
        files.open(files.save(Image.new("RGB", (1001, 1000))))
    path = files.folder / "big.png"
    path.write_bytes(b"x" * (3 * 2**19))
    with pytest.raises(DataError, match=r"big\.png: expected a file of at most 1 MB, got 1\.5 MB"):
        files.open(path)


def test_old_pictures_are_swept_but_not_those_of_the_page(studio: Studio) -> None:
    files = studio.files
    examples = files.folder / "examples"
    examples.mkdir()
    Image.new("RGB", (2, 2)).save(examples / "a.png")
    files.keep_present()
    old, new = files.save(Image.new("RGB", (2, 2))), files.save(Image.new("RGB", (2, 2)))
    now = time.time()
    os.utime(old, (now - 13 * 3600,) * 2)
    os.utime(examples / "a.png", (now - 13 * 3600,) * 2)
    files.sweep()  # looked a moment ago
    assert old.exists()
    files.sweep(now=now)
    assert (old.exists(), old.parent.exists(), new.exists()) == (False, False, True)
    assert (examples / "a.png").exists()


def test_limits_name_their_options() -> None:
    with pytest.raises(ConfigError, match="--max-steps: expected an integer >= 1, got 0\n--max-queue: expected"):
        Limits(steps=0, queue=-1)
    assert Limits().bytes == 20 * 2**20
