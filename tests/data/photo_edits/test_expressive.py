"""The parser reads every sentence that is generated, free wording too, and nothing into the rest."""

from __future__ import annotations

import itertools

import pytest

from mgie_lit.data.photo_edits.expressive import (
    COLOR_NAMES,
    MAX_WORDS,
    REPAIR_SENTENCES,
    SCENE_SENTENCES,
    SENTENCES,
    SHAPE_NAMES,
    parse_expressive,
)

SCENES = [(name, text) for name, text in SCENE_SENTENCES.items() if name not in {"swap", "opposite_color"}]


@pytest.mark.parametrize(("meaning", "sentence"), SENTENCES.items())
def test_global_sentences(meaning: str, sentence: str) -> None:
    assert parse_expressive(sentence) == meaning
    assert parse_expressive(f"  {sentence.capitalize()}. ") == meaning


@pytest.mark.parametrize(("sentence", "meaning"), REPAIR_SENTENCES.values())
def test_repair_sentences(sentence: str, meaning: str) -> None:
    assert parse_expressive(sentence) == meaning


def test_scene_sentences_in_all_fillings() -> None:
    for shape, color in itertools.product(SHAPE_NAMES, COLOR_NAMES):
        filled = {name: text.format(shape=shape, color=color, other="", old_color="") for name, text in SCENES}
        assert parse_expressive(filled["recolor"]) == f"recolor {shape} {color}"
        assert parse_expressive(filled["remove"]) == f"remove {shape}"
        assert parse_expressive(filled["background"]) == f"background {color}"
        assert parse_expressive(filled["remove_largest"]) == f"remove {shape}"
        for old in COLOR_NAMES:
            sentence = SCENE_SENTENCES["opposite_color"].format(shape=shape, color=color, old_color=old)
            assert parse_expressive(sentence) == f"recolor {shape} {color}"
    for shape, other in itertools.permutations(SHAPE_NAMES, 2):
        sentence = SCENE_SENTENCES["swap"].format(shape=shape, other=other)
        assert parse_expressive(sentence) == "swap " + " ".join(sorted((shape, other)))


def test_sentences_are_short_and_plain() -> None:
    every = [*SENTENCES.values(), *(text for text, _ in REPAIR_SENTENCES.values()), *SCENE_SENTENCES.values()]
    assert len(set(every)) == len(every)
    assert all(len(text.split()) <= MAX_WORDS for text in every)
    assert all(text == text.lower() and text[-1] not in " .,!" for text in every)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("The image gets much brighter.", "brighter"),
        ("everything is lighter than before", "brighter"),
        ("the picture would be dimmer", "darker"),
        ("a less bright photo", "darker"),
        ("it has more contrast", "more_contrast"),
        ("the shadows get darker and the highlights brighter", "more_contrast"),
        ("the contrast becomes weaker", "less_contrast"),
        ("a picture with low contrast", "less_contrast"),
        ("The colours are vibrant", "more_saturation"),
        ("the photo has less saturation", "less_saturation"),
        ("the colors are muted and pale", "less_saturation"),
        ("a golden, warm light", "warmer"),
        ("the photo looks colder", "cooler"),
        ("the image has a bluish tone", "cooler"),
        ("the blue cast disappears", "warmer"),
        ("the image turns black and white", "grayscale"),
        ("a grey photo", "grayscale"),
        ("a photo without color", "grayscale"),
        ("the colors are inverted", "negative"),
        ("the picture is out of focus", "blurrier"),
        ("the edges are crisper", "sharper"),
        ("the dark image gets brighter", "brighter"),
        ("The square turns green", "recolor square green"),
        ("the red cross is now white", "recolor cross white"),
        ("the star disappears", "remove star"),
        ("the triangle has been removed from the background", "remove triangle"),
        ("the background turns black", "background black"),
        ("the star and the diamond are swapped", "swap diamond star"),
    ],
)
def test_free_wording(text: str, meaning: str) -> None:
    assert parse_expressive(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the photo",
        "the whole photo becomes",
        "the photo becomes brighter and darker",
        "the photo becomes warm and cold",
        "the photo becomes brighter and gets a warm orange tone",
        "the whole photo does not become brighter",
        "the colors become",
        "the the the of of",
        "brightness",
        "the circle",
        "the circle and the star",
        "the circle becomes",
        "the circle becomes bigger",
        "the circle is gone and the star becomes red",
        "the circle and the star are gone",
        "the circle trades places",
        "the background is gone",
        "the circle never becomes red",
        "[IMG0] [IMG1] ### 12 %",
    ],
)
def test_nothing_or_two_things_at_once(text: str) -> None:
    assert parse_expressive(text) is None


def test_a_wrong_direction_is_read_as_such() -> None:
    for meaning, sentence in SENTENCES.items():
        others = {parse_expressive(other) for name, other in SENTENCES.items() if name != meaning}
        assert parse_expressive(sentence) not in others


def test_two_sentences_in_one_are_no_success() -> None:
    for first, second in itertools.permutations(SENTENCES.values(), 2):
        assert parse_expressive(f"{first} and {second}") is None
