from __future__ import annotations

from mgie_lit.doctor.parts import PARTS, count_parameters, part_modules
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.tiny_models import tiny_editor


def test_every_parameter_counts_once() -> None:
    editor = tiny_editor()
    set_trainable(editor, ["unet.*", "guide.mllm.language_model.lm_head.*"])
    counts = {count.part: count for count in count_parameters(editor)}
    assert sum(count.total for count in counts.values()) == sum(p.numel() for p in editor.parameters())
    assert counts["UNet"].total == counts["UNet"].trainable == sum(p.numel() for p in editor.unet.parameters())
    assert {name for name, count in counts.items() if count.trainable} == {"UNet", "LM head"}


def test_word_embeddings_are_not_counted_with_the_language_model() -> None:
    editor = tiny_editor()
    counts = {count.part: count.total for count in count_parameters(editor)}
    model = editor.guide.mllm.language_model  # type: ignore[union-attr]
    table = model.get_input_embeddings().weight.numel()
    assert counts["word embeddings"] == counts["LM head"] == table
    assert counts["language model"] == sum(p.numel() for p in model.parameters()) - 2 * table


def test_parts_that_a_system_does_not_have_are_left_out() -> None:
    names = [label for label, _ in part_modules(tiny_editor(has_vision=False))]
    assert set(names) == {label for label, _ in PARTS} - {"vision tower", "projector", "text encoder"}
    assert "vision tower" not in {count.part for count in count_parameters(tiny_editor(has_vision=False))}
