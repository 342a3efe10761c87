"""Flat coloured shapes with smooth edges."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLORS: dict[str, tuple[int, int, int]] = {  # 8-bit RGB
    "red": (215, 35, 35),
    "green": (40, 170, 60),
    "blue": (40, 70, 215),
    "cyan": (40, 205, 215),
    "magenta": (210, 50, 190),
    "yellow": (240, 215, 40),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
OPPOSITES = {
    "red": "cyan",
    "cyan": "red",
    "green": "magenta",
    "magenta": "green",
    "blue": "yellow",
    "yellow": "blue",
    "white": "black",
    "black": "white",
}
_SUPERSAMPLING = 4  # edge steps a pixel and axis


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape on the unit square."""

    kind: str
    color: str
    center: tuple[float, float]  # x, y in [0, 1]
    area: float  # share of the picture
    angle: float  # radians, clockwise

    @property
    def radius(self) -> float:
        """Distance from the centre to the furthest corner, in picture widths."""
        return math.sqrt(self.area / _AREAS[self.kind])


@functools.lru_cache(maxsize=32)  # a pair draws most of its shapes for source, target and mask
def coverage(shape: Shape, resolution: int) -> NDArray[np.float32]:
    """How much of each pixel the shape covers, ``(R, R, 1)`` in [0, 1]; read-only."""
    side = resolution * _SUPERSAMPLING
    canvas = Image.new("L", (side, side))
    cosine, sine = math.cos(shape.angle) * shape.radius, math.sin(shape.angle) * shape.radius
    corners = [
        ((shape.center[0] + x * cosine - y * sine) * side, (shape.center[1] + x * sine + y * cosine) * side)
        for x, y in OUTLINES[shape.kind]
    ]
    ImageDraw.Draw(canvas).polygon(corners, fill=255)
    covered = np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32)[..., None] * np.float32(1 / 255)
    covered.flags.writeable = False
    return covered


def _regular(corners: int, start: float = -math.pi / 2) -> tuple[tuple[float, float], ...]:
    """Corners of a regular polygon on the unit circle, clockwise from the top."""
    angles = [start + 2 * math.pi * number / corners for number in range(corners)]
    return tuple((math.cos(angle), math.sin(angle)) for angle in angles)


def _star(inner: float = 0.45) -> tuple[tuple[float, float], ...]:
    return tuple(
        (x * (inner if number % 2 else 1.0), y * (inner if number % 2 else 1.0))
        for number, (x, y) in enumerate(_regular(10))
    )


def _cross(arm: float = 0.32) -> tuple[tuple[float, float], ...]:
    long = math.sqrt(1.0 - arm**2)
    quarter = [(arm, -long), (arm, -arm), (long, -arm)]
    return tuple(
        point for turn in range(4) for x, y in quarter for point in [((x, y), (-y, x), (-x, -y), (y, -x))[turn]]
    )


def _polygon_area(corners: tuple[tuple[float, float], ...]) -> float:
    following = corners[1:] + corners[:1]
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(corners, following, strict=True))) / 2


OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {  # on the unit circle
    "circle": _regular(64),
    "square": _regular(4, start=-math.pi / 4),
    "triangle": _regular(3),
    "star": _star(),
    "cross": _cross(),
    "diamond": ((0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)),
}
_AREAS = {kind: _polygon_area(corners) for kind, corners in OUTLINES.items()}  # at radius 1
