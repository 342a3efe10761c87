"""Expressive instructions: one fixed sentence for each edit, and the fixed rules that read any such sentence.

A *meaning* is what a sentence says shall happen: an operation (``brighter``) or, in scenes, an operation with its
objects (``recolor circle red``, ``remove star``, ``background blue``, ``swap circle star``).
"""

from __future__ import annotations

import re

COLOR_NAMES = ("red", "green", "blue", "cyan", "magenta", "yellow", "white", "black")
SHAPE_NAMES = ("circle", "square", "triangle", "star", "cross", "diamond")
MAX_WORDS = 10

SENTENCES: dict[str, str] = {
    "brighter": "the whole photo becomes brighter and lighter",
    "darker": "the whole photo becomes darker and dimmer",
    "more_contrast": "dark parts get darker and bright parts get brighter",
    "less_contrast": "the contrast is low and the photo looks faded",
    "more_saturation": "the colors become vivid and strong",
    "less_saturation": "the colors become pale and muted",
    "warmer": "the photo gets a warm orange tone",
    "cooler": "the photo gets a cold blue tone",
    "grayscale": "all color is gone and only gray tones are left",
    "negative": "every color is replaced by its inverse like a negative",
    "blurrier": "the whole photo becomes soft and blurred",
    "sharper": "the details become sharp and crisp",
}
REPAIR_SENTENCES: dict[str, tuple[str, str]] = {  # fault of the photograph: (sentence, its meaning)
    "dark": ("the dark photo becomes brighter and lighter", "brighter"),
    "bright": ("the bright photo becomes darker and dimmer", "darker"),
    "orange": ("the orange tint goes away and the tones become cooler", "cooler"),
    "blue": ("the blue tint goes away and the tones become warmer", "warmer"),
    "faded": ("the faded photo gets strong contrast and clear tones", "more_contrast"),
}
SCENE_SENTENCES: dict[str, str] = {
    "recolor": "the {shape} becomes {color} and the rest stays",
    "remove": "the {shape} is gone and the background fills its place",
    "background": "the background becomes {color} and the shapes stay",
    "swap": "the {shape} and the {other} trade places",
    "remove_largest": "the largest shape is the {shape} and it is gone",
    "opposite_color": "the {old_color} {shape} becomes {color}",
}

_SYNONYMS = {"colour": "color", "colours": "colors", "coloured": "colored", "grey": "gray", "disc": "circle"}
_SHAPE_WORDS = {word: name for name in SHAPE_NAMES for word in (name, f"{name}s", f"{name}es")}
_MORE = r"(?:more|higher|increased?|stronger|strong|high|boosted|raised|full)"
_LESS = r"(?:less|lower|reduced?|weaker|weak|low|decreased|lowered|little)"
_CAST = r"(?:tint|cast|tone|tones|glow)"
_FADES = r"(?:goes away|go away|is gone|are gone|disappears?|vanish(?:es)?|is removed|fades)"
_STATE = r"(?:too )?(?:dark|bright|faded|dull|pale|blue|bluish|orange|yellowish|warm|cold|gray|flat|washed out)"

# What the photograph was before, or what leaves it: rewritten so that only what comes counts.
_REWRITES = (
    (re.compile(rf"\b(?:warm|orange|golden|yellow) {_CAST} {_FADES}"), "cooler"),
    (re.compile(rf"\b(?:cold|cool|blue|bluish) {_CAST} {_FADES}"), "warmer"),
    (re.compile(rf"\bthe {_STATE} (photo|image|picture|scene)\b"), r"the \1"),
    (re.compile(r"\bless (?:bright|light)\b"), "darker"),
    (re.compile(r"\bless (?:dark|dim)\b"), "brighter"),
    (re.compile(r"\bmore (bright|light)\b"), "brighter"),
    (re.compile(r"\bmore (dark|dim)\b"), "darker"),
    (re.compile(r"\b(?:less|not) (?:sharp|crisp|detailed)\b"), "blurred"),
    (re.compile(r"\bless (?:blurry|blurred|soft)\b"), "sharper"),
    (re.compile(r"\bless (?:vivid|saturated|colorful)\b"), "desaturated"),
    (re.compile(r"\b(?:without|no) colors?\b"), "monochrome"),
)
_BRIGHTER = re.compile(r"\b(?:brighter|lighter|brightened|lightened|bright)\b")
_DARKER = re.compile(r"\b(?:darker|dimmer|darkened|dimmed|dark)\b")
_PARTS = re.compile(r"\b(?:parts?|areas?|tones|shadows|highlights|regions)\b")
_WHOLE = re.compile(r"\b(?:whole|entire|overall|everything)\b")
_RULES: dict[str, re.Pattern[str]] = {
    "more_contrast": re.compile(rf"\b{_MORE}(?: \w+)? contrast\b|\bcontrast (?:is|becomes|gets) {_MORE}\b|\bpunch"),
    "less_contrast": re.compile(rf"\b{_LESS}(?: \w+)? contrast\b|\bcontrast (?:is|becomes|gets) {_LESS}\b|\bfaded\b"),
    "more_saturation": re.compile(
        rf"\b(?:vivid|vibrant|colorful|saturated|intense|richer)\b|\b{_MORE} (?:saturation|colors?)\b"
        rf"|\bcolors (?:become|are|get|look) (?:much )?{_MORE}"
    ),
    "less_saturation": re.compile(
        rf"\b(?:pale|paler|muted|desaturated)\b|\b{_LESS} (?:saturation|colors?)\b"
        rf"|\bcolors (?:become|are|get|look) (?:much )?{_LESS}"
    ),
    "warmer": re.compile(r"\b(?:warm|warmer|warmth|orange|golden)\b"),
    "cooler": re.compile(r"\b(?:cold|colder|cool|cooler|icy|blue|bluish)\b"),
    "grayscale": re.compile(r"\b(?:gray|grayscale|monochrome|colorless|black and white)\b"),
    "negative": re.compile(r"\b(?:negative|inverse|inverted|inverts?|opposite)\b"),
    "blurrier": re.compile(r"\b(?:blur|blurred|blurry|blurrier|soft|softer|out of focus)\b"),
    "sharper": re.compile(r"\b(?:sharp|sharper|sharpened|crisp|crisper)\b"),
}
_GONE = re.compile(r"\b(?:gone|removed?|removes|disappears?|vanish(?:es)?|deleted|erased|missing)\b")
_TRADE = re.compile(r"\b(?:swap|swaps|swapped|trade|trades|exchange|exchanged|exchanges|switch|switched)\b")
_BECOMES = re.compile(rf"\b(?:becomes?|turns?|is now|gets|changes? to|to|is|into)\b.*?\b({'|'.join(COLOR_NAMES)})\b")
_NEGATION = re.compile(r"\b(?:not|never|nothing|unchanged|without any change)\b")


def parse_expressive(text: str) -> str | None:
    """Meaning of an expressive instruction by fixed rules; None when it says nothing, or two things at once.

    The rules know more words than the sentences of this module, so that free writing is read fairly.

    Args:
        text: One sentence; case, punctuation and British spelling do not matter.

    Returns:
        A key of ``SENTENCES``, or ``recolor SHAPE COLOR``, ``remove SHAPE``, ``background COLOR``,
        ``swap SHAPE SHAPE`` (shapes in alphabetical order).

    >>> parse_expressive("The whole image gets much brighter.")
    'brighter'
    >>> parse_expressive("the red circle becomes cyan")
    'recolor circle cyan'
    """
    words = [_SYNONYMS.get(word, word) for word in re.findall(r"[a-z]+", text.lower())]
    sentence = " ".join(words)
    shapes = list(dict.fromkeys(_SHAPE_WORDS[word] for word in words if word in _SHAPE_WORDS))
    if shapes or "background" in words:
        return _parse_scene(sentence, shapes)
    return _parse_global(sentence)


def _parse_scene(sentence: str, shapes: list[str]) -> str | None:
    gone, trade, becomes = _GONE.search(sentence), _TRADE.search(sentence), _BECOMES.search(sentence)
    if _NEGATION.search(sentence) or sum(map(bool, (gone, trade, becomes))) != 1:
        return None
    if trade:
        return f"swap {min(shapes)} {max(shapes)}" if len(shapes) == 2 else None
    if len(shapes) > 1:
        return None
    if becomes:
        return f"recolor {shapes[0]} {becomes[1]}" if shapes else f"background {becomes[1]}"
    return f"remove {shapes[0]}" if shapes else None


def _parse_global(sentence: str) -> str | None:
    for pattern, plain in _REWRITES:
        sentence = pattern.sub(plain, sentence)
    if _NEGATION.search(sentence):
        return None
    found = {meaning for meaning, pattern in _RULES.items() if pattern.search(sentence)}
    brighter, darker = _BRIGHTER.search(sentence), _DARKER.search(sentence)
    if brighter and darker:
        if not _PARTS.search(sentence) or _WHOLE.search(sentence):
            return None
        found.add("more_contrast")
    elif brighter or darker:
        found.add("brighter" if brighter else "darker")
    return found.pop() if len(found) == 1 else None
