from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from mgie_lit.data.cache.recipe import KINDS, Recipe, canonical_precision, recipes_of, weights_hash
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.editor import Editor
from mgie_lit.errors import ConfigError
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.random_data import tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor

FROZEN = ["unet.*", "guide.edit_head.*"]


@pytest.fixture
def editor() -> Editor:
    editor = tiny_editor("kl")
    set_trainable(editor, FROZEN)
    return editor


def recipe(editor: Editor, kind: str, collator: EditCollator | None = None, precision: str = "32-true") -> Recipe:
    found = recipes_of(editor, collator or tiny_collator(editor.guide), precision)[kind]  # type: ignore[arg-type]
    assert isinstance(found, Recipe)
    return found


def changed(one: Recipe, other: Recipe) -> list[str]:
    return [line.partition(":")[0] for line in one.differences(other.facts)]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_systems_have_equal_recipes(editor: Editor, kind: str) -> None:
    again = tiny_editor("kl")
    set_trainable(again, FROZEN)
    assert recipe(editor, kind).digest == recipe(again, kind).digest
    assert recipe(editor, kind).differences(recipe(again, kind).facts) == []


def test_each_change_is_named(editor: Editor) -> None:
    for kind, part in (("latents", editor.autoencoder), ("vision", editor.guide.mllm.vision_tower)):  # type: ignore[union-attr]
        before = recipe(editor, kind)
        assert changed(before, recipe(editor, kind, precision="bf16-mixed")) == ["dtype"]
        with torch.no_grad():
            next(part.parameters()).view(-1)[0] += 1e-6
        after = recipe(editor, kind)
        assert changed(before, after) == ["weights"]
        assert before.digest != after.digest
        with torch.no_grad():
            next(part.parameters()).view(-1)[0] -= 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_resampler_counts_and_pillow_goes_without_saying(editor: Editor, kind: str) -> None:
    other = tiny_collator(editor.guide)  # type: ignore[arg-type]
    other.transform = PairTransform(16, "torch")
    before, after = recipe(editor, kind), recipe(editor, kind, other)
    assert before.differences(after.facts) == ["resampler: cached torch, now none"]
    assert before.digest != after.digest


@pytest.mark.parametrize("transform", [PairTransform(17), TwoStepTransform(16)])
def test_geometry_counts(editor: Editor, transform: PairTransform | TwoStepTransform) -> None:
    other = tiny_collator(editor.guide)  # type: ignore[arg-type]
    other.transform = transform
    for kind in KINDS:
        assert changed(recipe(editor, kind), recipe(editor, kind, other)) == ["transform"]


def test_number_type_of_the_weights_counts(editor: Editor) -> None:
    before = recipe(editor, "vision")
    editor.guide.mllm.vision_tower.half()  # type: ignore[union-attr]
    assert changed(before, recipe(editor, "vision")) == ["weights", "dtype"]


def test_image_processor_and_layer_count_for_vision_alone(editor: Editor) -> None:
    before = {kind: recipe(editor, kind) for kind in KINDS}
    other = tiny_collator(editor.guide)  # type: ignore[arg-type]
    processor = type(other.image_processor)(**{**other.image_processor.to_dict(), "image_mean": [0.1, 0.2, 0.3]})  # type: ignore[union-attr]
    other.image_processor = processor
    assert changed(before["vision"], recipe(editor, "vision", other)) == ["image processor"]
    editor.guide.mllm.vision_layer = -1  # type: ignore[union-attr]
    assert changed(before["vision"], recipe(editor, "vision")) == ["model"]
    assert recipe(editor, "latents", other) == before["latents"]


def test_a_tower_that_trains_is_not_cached(editor: Editor) -> None:
    set_trainable(editor, ["guide.*", "unet.*"])
    found = recipes_of(editor, tiny_collator(editor.guide), "32-true")  # type: ignore[arg-type]
    assert isinstance(found["latents"], Recipe)
    assert found["vision"] == (
        "the vision tower trains, so its features change in every step; train with trainable=paper to freeze it"
    )


def test_what_needs_no_cache() -> None:
    editor = tiny_editor("patch", has_vision=False)
    found = recipes_of(editor, tiny_collator(editor.guide), "32-true")  # type: ignore[arg-type]
    assert found["latents"] == "PatchAutoencoder has no weights and takes less time than reading its latents would"
    assert found["vision"] == "the guide has no vision tower"


@dataclass(frozen=True)
class _RandomCrops:
    resolution: int


@pytest.mark.faults
def test_random_crops_exclude_a_cache(editor: Editor) -> None:
    other = tiny_collator(editor.guide)  # type: ignore[arg-type]
    other.transform = _RandomCrops(16)  # type: ignore[assignment]
    with pytest.raises(
        ConfigError, match=r"data\.cache: expected a fixed geometry, got _RandomCrops, .* without the cache"
    ):
        recipes_of(editor, other, "32-true")


def test_differences_name_both_values() -> None:
    one = Recipe("latents", {"weights": "new", "dtype": "float32", "model": "m" * 100})
    other = replace(one, facts={"weights": "old", "dtype": "float32", "extra": "x"})
    assert one.differences(other.facts) == [
        "weights: cached old, now new",
        f"model: cached none, now {'m' * 77}...",
        "extra: cached x, now none",
    ]


def test_precisions_have_one_name() -> None:
    assert canonical_precision(32) == canonical_precision("32-true") == "32-true"
    assert canonical_precision("bf16") == "bf16-mixed"


def test_weights_hash_sees_names_types_and_values() -> None:
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    other.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(other)
    assert weights_hash(one) != weights_hash(other.double())
    assert weights_hash(one) != weights_hash(torch.nn.Sequential(one))
