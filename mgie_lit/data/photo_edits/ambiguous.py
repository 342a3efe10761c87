"""Requests on scenes whose right answer is seen only in the picture: the largest shape, the opposite colour."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mgie_lit.data.photo_edits.expressive import SCENE_SENTENCES
from mgie_lit.data.photo_edits.pairs import EditPair
from mgie_lit.data.photo_edits.scenes import draw_scene, object_mask
from mgie_lit.data.photo_edits.shapes import OPPOSITES

if TYPE_CHECKING:
    from mgie_lit.data.photo_edits.pairs import PairRequest

OPERATIONS = ("remove_largest", "opposite_color")


def make_relational_edit(request: PairRequest) -> EditPair:
    """A scene and the same scene after a request that does not say what exactly changes."""
    scene = draw_scene(request.rng, request.pool)
    if request.operation == "remove_largest":
        shape = scene.shapes[0]
        edited = scene.replaced(shape)
        slots = {"shape": shape.kind}
        meaning = f"remove {shape.kind}"
    else:
        shape = scene.shapes[int(request.rng.integers(len(scene.shapes)))]
        color = OPPOSITES[shape.color]
        edited = scene.replaced(shape, replace(shape, color=color))
        slots = {"shape": shape.kind, "color": color, "old_color": shape.color}
        meaning = f"recolor {shape.kind} {color}"
    expressive = SCENE_SENTENCES[request.operation].format(**slots)
    return EditPair(scene.render(), edited.render(), expressive, meaning, object_mask(scene, (shape,)), slots)
