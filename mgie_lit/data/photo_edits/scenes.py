"""Drawn scenes: two to four coloured shapes on a background, and edits of single objects with exact masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mgie_lit.data.photo_edits.expressive import COLOR_NAMES, SCENE_SENTENCES, SHAPE_NAMES
from mgie_lit.data.photo_edits.pairs import EditPair, PairRequest
from mgie_lit.data.photo_edits.pixels import to_bytes, to_float
from mgie_lit.data.photo_edits.shapes import COLORS, Shape, coverage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mgie_lit.data.photo_edits.crops import CropPool
    from mgie_lit.data.photo_edits.pixels import ByteImage, FloatImage

    _Edited: TypeAlias = "tuple[Scene, NDArray[np.uint8], str]"  # edited scene, mask, meaning

LARGEST_AREA = (0.05, 0.065)  # share of the picture
AREA_STEP = (0.55, 0.7)  # each next shape is this much smaller, so that the largest is plain to see
MAX_ANGLE = 0.3  # radians either way: a square never looks like a diamond
CELL = 0.5  # each shape keeps to its own quarter, so shapes never touch
MARGIN = 0.02  # picture widths between a shape and its quarter's border


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and shapes of different kinds and colours, the largest first."""

    background: FloatImage  # (R, R, 3) in [0, 1]
    background_color: str  # "" for gradients and textures
    shapes: tuple[Shape, ...]

    def render(self) -> ByteImage:
        """The picture ``(R, R, 3)``, 8-bit RGB."""
        image = self.background.copy()
        for shape in self.shapes:
            cover = coverage(shape, len(image))
            image += cover * (color_values(shape.color) - image)
        return to_bytes(image)

    def replaced(self, old: Shape, *new: Shape) -> Scene:
        """The scene with ``new`` in the place of ``old``; nothing removes it."""
        shapes = tuple(kept for shape in self.shapes for kept in (new if shape is old else (shape,)))
        return replace(self, shapes=shapes)


def color_values(name: str) -> FloatImage:
    """RGB ``(3,)`` in [0, 1] of a named colour."""
    return np.array(COLORS[name], dtype=np.float32) / np.float32(255.0)


def draw_scene(rng: np.random.Generator, pool: CropPool) -> Scene:
    """Draw a scene: kinds and colours all different, sizes clearly ordered, one shape a quarter at most."""
    resolution = pool.pixels.shape[1]
    count = int(rng.integers(2, 5))
    kinds = rng.permutation(len(SHAPE_NAMES))[:count]
    colors = [COLOR_NAMES[number] for number in rng.permutation(len(COLOR_NAMES))]
    quarters = rng.permutation(4)[:count]
    area = rng.uniform(*LARGEST_AREA)
    shapes: list[Shape] = []
    for kind, color, quarter in zip(kinds, colors[:count], quarters, strict=True):
        shape = Shape(SHAPE_NAMES[kind], color, (0.0, 0.0), area, rng.uniform(-MAX_ANGLE, MAX_ANGLE))
        shapes.append(replace(shape, center=_center(rng, int(quarter), shape.radius)))
        area *= rng.uniform(*AREA_STEP)
    background, name = _draw_background(rng, pool, colors[count], resolution)
    return Scene(background, name, tuple(shapes))


def make_object_edit(request: PairRequest) -> EditPair:
    """A scene and the same scene after an edit that names its object."""
    rng = request.rng
    scene = draw_scene(rng, request.pool)
    first, second = (scene.shapes[number] for number in rng.permutation(len(scene.shapes))[:2])
    color = _free_color(rng, scene)
    slots = {"shape": first.kind, "other": second.kind, "color": color}
    edited, mask, meaning = _EDITS[request.operation](scene, first, second, color)
    expressive = SCENE_SENTENCES[request.operation].format(**slots)
    return EditPair(scene.render(), edited.render(), expressive, meaning, mask, slots)


def object_mask(scene: Scene, changed: tuple[Shape, ...]) -> NDArray[np.uint8]:
    """255 where any of ``changed`` covers a part of the pixel, ``(R, R)``."""
    resolution = len(scene.background)
    touched = np.any([coverage(shape, resolution) > 0 for shape in changed], axis=0)
    return np.where(touched[..., 0], 255, 0).astype(np.uint8)


def background_mask(scene: Scene) -> NDArray[np.uint8]:
    """255 where any background shows, ``(R, R)``."""
    resolution = len(scene.background)
    hidden = np.any([coverage(shape, resolution) >= 1 for shape in scene.shapes], axis=0)
    return np.where(hidden[..., 0], 0, 255).astype(np.uint8)


def _recolor(scene: Scene, shape: Shape, _: Shape, color: str) -> _Edited:
    edited = scene.replaced(shape, replace(shape, color=color))
    return edited, object_mask(scene, (shape,)), f"recolor {shape.kind} {color}"


def _remove(scene: Scene, shape: Shape, _: Shape, __: str) -> _Edited:
    return scene.replaced(shape), object_mask(scene, (shape,)), f"remove {shape.kind}"


def _fill_background(scene: Scene, _: Shape, __: Shape, color: str) -> _Edited:
    plain = np.broadcast_to(color_values(color), scene.background.shape).astype(np.float32)
    return replace(scene, background=plain, background_color=color), background_mask(scene), f"background {color}"


def _swap(scene: Scene, first: Shape, second: Shape, _: str) -> _Edited:
    moved = (
        replace(first, center=_fit(second.center, first.radius)),
        replace(second, center=_fit(first.center, second.radius)),
    )
    edited = scene.replaced(first, moved[0]).replaced(second, moved[1])
    kinds = sorted((first.kind, second.kind))
    return edited, object_mask(scene, (first, second, *moved)), f"swap {kinds[0]} {kinds[1]}"


_EDITS: dict[str, Callable[[Scene, Shape, Shape, str], _Edited]] = {
    "recolor": _recolor,
    "remove": _remove,
    "background": _fill_background,
    "swap": _swap,
}
OPERATIONS = tuple(_EDITS)


def _center(rng: np.random.Generator, quarter: int, radius: float) -> tuple[float, float]:
    """A place in the quarter that keeps the shape inside it, whatever its angle."""
    play = _play(radius)
    x, y = (rng.uniform(-play, play) for _ in range(2))
    return (quarter % 2 + 0.5) * CELL + x, (quarter // 2 + 0.5) * CELL + y


def _fit(place: tuple[float, float], radius: float) -> tuple[float, float]:
    """The nearest centre at which a shape of this radius stays inside the quarter of ``place``."""
    play = _play(radius)
    x, y = ((int(part / CELL) + 0.5) * CELL for part in place)
    return min(max(place[0], x - play), x + play), min(max(place[1], y - play), y + play)


def _play(radius: float) -> float:
    """How far from its quarter's middle a shape may stand, in picture widths."""
    return max(0.0, CELL / 2 - MARGIN - radius)


def _free_color(rng: np.random.Generator, scene: Scene) -> str:
    """A colour that nothing in the scene has."""
    taken = {scene.background_color, *(shape.color for shape in scene.shapes)}
    free = [name for name in COLOR_NAMES if name not in taken]
    return free[int(rng.integers(len(free)))]


def _draw_background(rng: np.random.Generator, pool: CropPool, color: str, resolution: int) -> tuple[FloatImage, str]:
    """A plain colour, a gradient of two soft colours, or a faint photograph; and the name of a plain colour."""
    kind = int(rng.integers(3))
    if kind == 0:
        return np.broadcast_to(color_values(color), (resolution, resolution, 3)).astype(np.float32), color
    if kind == 1:
        ends = rng.uniform(0.3, 0.85, size=(2, 3)).astype(np.float32)
        direction = rng.uniform(0.0, 2 * np.pi)
        axis = np.linspace(-0.5, 0.5, resolution, dtype=np.float32)
        ramp = np.cos(direction) * axis[None, :] + np.sin(direction) * axis[:, None]
        ramp = np.clip(ramp * 0.7 + 0.5, 0.0, 1.0).astype(np.float32)[..., None]
        return ends[0] + ramp * (ends[1] - ends[0]), ""
    texture = to_float(pool.pixels[int(rng.integers(len(pool)))])
    return texture * np.float32(0.4) + np.float32(0.35), ""
