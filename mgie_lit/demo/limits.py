"""What one request may ask for; keeps a shared machine usable."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mgie_lit.errors import ConfigError

MEGABYTE, MEGAPIXEL = 2**20, 10**6  # as browsers and cameras count


@dataclass(frozen=True)  # no slots: the class holds the defaults
class Limits:
    """Upper bounds of what users of the demo can ask for.

    Raises:
        ConfigError: A bound is below 1; the message names its option.
    """

    megabytes: int = 20  # of an uploaded file
    megapixels: int = 16  # of a picture, width times height
    steps: int = 100  # denoising steps of an edit
    grid: int = 16  # edits of one comparison
    queue: int = 32  # jobs that wait, the running one not counted
    turns: int = 50  # edits that a session remembers
    characters: int = 500  # of an instruction
    hours: int = 12  # that a picture is kept

    def __post_init__(self) -> None:
        """Check the ranges."""
        faults = [
            f"--max-{entry.name}: expected an integer >= 1, got {getattr(self, entry.name)}"
            for entry in fields(self)
            if getattr(self, entry.name) < 1
        ]
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def bytes(self) -> int:
        """Largest upload in bytes."""
        return self.megabytes * MEGABYTE

    @property
    def pixels(self) -> int:
        """Largest picture, width times height."""
        return self.megapixels * MEGAPIXEL
