"""Write the card of the weights that ship, `mgie_lit/assets/tiny/README.md`, out of evaluations of them.

    mgie eval checkpoint=tiny metrics=expressive paths.run_dir=A
    mgie eval checkpoint=tiny data=photo_edits_mixed metrics=expressive paths.run_dir=B
    python tests/golden/make_tiny_card.py A B

How they were trained is known from docs/model_card_tiny.md, which says more about what they can not do.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.data_sets import known_data_sets
from mgie_lit.checkpoints.cards.files import CARD_FILE
from mgie_lit.checkpoints.cards.origins import Origin
from mgie_lit.checkpoints.cards.results import Results, other_weights
from mgie_lit.checkpoints.exports import TINY, TINY_DIR
from mgie_lit.checkpoints.integrity import folder_digest

TRAINING = {
    "command": "`mgie train experiment=tiny`",
    "commit": "`8246c9f`",
    "steps": "6,000 of 32 examples, from random weights, seed 0",
    "hardware": "one thread of an AMD EPYC, about 55 minutes of CPU time",
    "works at": "64 px; the edit is carried to the photograph's own size",
}
NOTES = (
    "It has learnt ten global photo edits and the background of drawn scenes. Recolouring and removing objects is "
    "worse than copying the source, and it knows the words of `photo_edits` alone. It is made for guidance off and 4 "
    "steps; with the scales of the large models (7.5 and 1.5) it is worse than copying. Numbers for each edit: "
    "`docs/model_card_tiny.md` in the project."
)


def main(evaluations: list[Path]) -> None:
    """Write the card."""
    results = tuple(map(Results.read, evaluations))
    for folder, one in zip(evaluations, results, strict=True):
        if one.source.get("sha256") != folder_digest(TINY_DIR):
            raise other_weights(one, folder, TINY_DIR)
    origin = Origin("all", "trained by mgie_lit itself", "apache-2.0", "Apache-2.0, as the code")
    data = tuple(known_data_sets("photo_edits"))
    card = Card(TINY, (origin,), data=data, training=TRAINING, results=results, notes=NOTES)
    (TINY_DIR / CARD_FILE).write_text(card.text(), encoding="utf-8")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
