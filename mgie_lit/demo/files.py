"""The demo's own temporary folder: the only place that it reads pictures from and writes them to."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.data.image_files import open_image
from mgie_lit.demo.limits import MEGABYTE
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    from mgie_lit.demo.limits import Limits

_SWEEP_SECONDS = 600.0
_SECONDS_PER_HOUR = 3600.0


class Files:
    """A folder that lives as long as the demo.

    Args:
        limits: How large uploads may be, and how long pictures are kept.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix="mgie-demo-")).resolve()
        self._kept: frozenset[Path] = frozenset()
        self._last_sweep = time.monotonic()
        self._lock = threading.Lock()

    def open(self, path: Path) -> Image.Image:
        """Decode an uploaded picture.

        Args:
            path: In this folder.

        Returns:
            Upright, RGB.

        Raises:
            DataError: It lies elsewhere, is gone, too large, or no picture; the message is for the page, without the
                folder's path.
        """
        self.check(path)
        try:
            return open_image(path, max_pixels=self.limits.pixels)
        except DataError as error:
            raise DataError(str(error).replace(f"{path}: ", f"{path.name}: ")) from error

    def check(self, path: Path) -> None:
        """Refuse files that are not of this folder, and such as are too large.

        Args:
            path: As a client named it.

        Raises:
            DataError: It is refused.
        """
        if not path.resolve().is_relative_to(self.folder):
            raise DataError(f"{path.name}: expected a picture that was uploaded here; upload it first")
        if not path.is_file():
            raise DataError(
                f"{path.name}: is no longer here, pictures are kept for {self.limits.hours} h; upload it again"
            )
        if (size := path.stat().st_size) > self.limits.bytes:
            raise DataError(
                f"{path.name}: expected a file of at most {self.limits.megabytes} MB, got "
                f"{size / MEGABYTE:.1f} MB; make it smaller"
            )

    def save(self, image: Image.Image) -> Path:
        """Write a picture as PNG under a name that can not be guessed."""
        self.sweep()
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        path = folder / "edited.png"
        image.save(path, compress_level=1)  # speed; the files are short-lived
        return path

    def keep_present(self) -> None:
        """What lies here now (examples, the page's own files) is never swept."""
        self._kept = frozenset(path for path in self.folder.rglob("*") if path.is_file())

    def sweep(self, *, now: float | None = None) -> None:
        """Remove pictures that are too old; looks at the folder at most every ten minutes.

        Args:
            now: Seconds since the epoch, to look at once; None = the clock's.
        """
        with self._lock:
            if now is None and time.monotonic() - self._last_sweep < _SWEEP_SECONDS:
                return
            self._last_sweep = time.monotonic()
        oldest = (time.time() if now is None else now) - self.limits.hours * _SECONDS_PER_HOUR
        for folder, _, names in os.walk(self.folder, topdown=False):
            for path in (Path(folder, name) for name in names):
                try:
                    if path not in self._kept and path.stat().st_mtime < oldest:
                        path.unlink()
                        path.parent.rmdir()
                except OSError:  # already gone, or its folder holds more
                    continue

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
