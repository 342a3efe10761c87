"""What the weights that ship can do, for those who choose a model; the numbers are in ``docs/model_card_tiny.md``."""

TINY_EDITS = (
    "brighter",
    "darker",
    "more_contrast",
    "less_contrast",
    "more_saturation",
    "less_saturation",
    "warmer",
    "cooler",
    "grayscale",
    "negative",
)
TINY_NOTE = (
    f"tiny knows edits of a whole picture: {', '.join(TINY_EDITS).replace('_', ' ')}. It can not add, remove or "
    "recolour things; other requests become one of these, or nothing of sense."
)
