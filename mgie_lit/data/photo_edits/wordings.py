"""Requests in the human's words: base wordings in frames, a fifth of the combinations kept for tests.

Keys are operations; ``{shape}``, ``{other}`` and ``{color}`` are filled in by whoever draws the scene.
"""

from __future__ import annotations

import functools
from typing import Literal

Wording = Literal["seen", "new"]

FRAMES = ("{}", "please {}", "{} please", "can you {}?", "{}, thanks")
BASE_WORDINGS: dict[str, tuple[str, ...]] = {
    "brighter": (
        "make it brighter",
        "brighten the photo",
        "brighten it",
        "increase the brightness",
        "lighten the image",
        "make the photo lighter",
        "turn up the brightness",
        "add more light",
    ),
    "darker": (
        "make it darker",
        "darken the photo",
        "darken it",
        "reduce the brightness",
        "make the image dimmer",
        "turn down the brightness",
        "lower the brightness",
        "take away light",
    ),
    "more_contrast": (
        "increase the contrast",
        "add contrast",
        "make it punchier",
        "boost the contrast",
        "make the contrast stronger",
        "give it more contrast",
        "turn up the contrast",
        "raise the contrast",
    ),
    "less_contrast": (
        "lower the contrast",
        "reduce the contrast",
        "make it flatter",
        "decrease the contrast",
        "make the contrast weaker",
        "give it less contrast",
        "turn down the contrast",
        "make it look faded",
    ),
    "more_saturation": (
        "make it more colorful",
        "increase the saturation",
        "make the colors vivid",
        "boost the colors",
        "make the colors stronger",
        "saturate the colors",
        "give it more saturation",
        "turn up the colors",
    ),
    "less_saturation": (
        "make it less colorful",
        "reduce the saturation",
        "mute the colors",
        "tone down the colors",
        "make the colors pale",
        "lower the saturation",
        "give it less saturation",
        "turn down the colors",
    ),
    "warmer": (
        "make it warmer",
        "warm it up",
        "add warmth",
        "make the tones warmer",
        "give it a golden look",
        "give it an orange tint",
        "add a warm glow",
        "make it feel sunny",
    ),
    "cooler": (
        "make it cooler",
        "cool it down",
        "add a cold tone",
        "make the tones colder",
        "give it a blue look",
        "give it a blue tint",
        "make it feel cold",
        "make it look icy",
    ),
    "grayscale": (
        "make it black and white",
        "turn it gray",
        "convert it to grayscale",
        "remove all color",
        "make it monochrome",
        "take out the colors",
        "drop the colors",
        "make it a gray photo",
    ),
    "negative": (
        "make it a negative",
        "invert the colors",
        "invert it",
        "turn it into a negative",
        "reverse the colors",
        "flip the colors",
        "show the negative",
        "make a film negative",
    ),
    "blurrier": (
        "blur it",
        "make it blurry",
        "blur the photo",
        "make it softer",
        "soften the image",
        "make it less sharp",
        "take away the details",
        "put it out of focus",
    ),
    "sharper": (
        "sharpen it",
        "make it sharper",
        "sharpen the photo",
        "make the details crisp",
        "add sharpness",
        "bring out the details",
        "make it crisper",
        "make the edges sharper",
    ),
    "fix_exposure": (
        "fix the exposure",
        "correct the exposure",
        "repair the exposure",
        "adjust the exposure",
        "improve the exposure",
        "set the right exposure",
        "balance the light",
        "get the exposure right",
    ),
    "look_right": (
        "make it look right",
        "make it look natural",
        "fix this photo",
        "improve the photo",
        "correct this picture",
        "make the photo look good",
        "repair this image",
        "make it look normal",
    ),
    "recolor": (
        "make the {shape} {color}",
        "color the {shape} {color}",
        "turn the {shape} {color}",
        "paint the {shape} {color}",
        "change the {shape} to {color}",
        "let the {shape} be {color}",
    ),
    "remove": (
        "remove the {shape}",
        "delete the {shape}",
        "take away the {shape}",
        "erase the {shape}",
        "get rid of the {shape}",
        "take out the {shape}",
    ),
    "background": (
        "make the background {color}",
        "change the background to {color}",
        "turn the background {color}",
        "paint the background {color}",
        "fill the background with {color}",
        "let the background be {color}",
    ),
    "swap": (
        "swap the {shape} and the {other}",
        "exchange the {shape} and the {other}",
        "switch the {shape} and the {other}",
        "let the {shape} and the {other} trade places",
        "put the {shape} and the {other} in each other's place",
        "swap the places of the {shape} and the {other}",
    ),
    "remove_largest": (
        "remove the largest shape",
        "delete the largest shape",
        "take away the biggest shape",
        "erase the biggest shape",
        "get rid of the largest object",
        "take out the biggest object",
    ),
    "opposite_color": (
        "give the {shape} its opposite color",
        "turn the {shape} into its opposite color",
        "change the {shape} to its opposite color",
        "make the {shape} its complementary color",
        "paint the {shape} in its opposite color",
        "invert the color of the {shape}",
    ),
}


@functools.cache
def requests(operation: str, wording: Wording) -> tuple[str, ...]:
    """Request templates of an operation, the ones to train on (``seen``) or those kept for tests (``new``).

    The bare base wordings are always ``seen``; each one is kept out of training in exactly one of the other frames. So
    a new request is a new combination of known words, and the new ones are a fifth of all.

    >>> requests("brighter", "new")[0]
    'please make it brighter'
    """
    number = tuple(BASE_WORDINGS).index(operation)
    return tuple(
        frame.format(base)
        for position, base in enumerate(BASE_WORDINGS[operation])
        for place, frame in enumerate(FRAMES)
        if (place == 1 + (number + position) % (len(FRAMES) - 1)) == (wording == "new")
    )
