"""Trains the small tokenizer that ships with the small sizes: ``python -m mgie_lit.prepare.tokenizer``."""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mgie_lit.data.photo_edits.expressive import COLOR_NAMES, REPAIR_SENTENCES, SCENE_SENTENCES, SENTENCES, SHAPE_NAMES
from mgie_lit.data.photo_edits.wordings import BASE_WORDINGS, requests
from mgie_lit.errors import ConfigError
from mgie_lit.prompts import SMALL_TOKENIZER_DIR
from mgie_lit.vocabulary import IMAGE_TOKENS, VISUAL_TOKENS

VOCAB_SIZE = 512  # with the image and visual tokens, which are added when it is loaded
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")  # LLaMA's, at LLaMA's ids 0, 1, 2


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte pair encoding of lower-case text without accents, with LLaMA's special tokens.

    Args:
        texts: What it should be good at; all printable ASCII is known besides.
        vocab_size: Tokens, special ones included, image and visual ones not.

    Returns:
        A tokenizer that pads with ``<unk>``, as ml-mgie does; ids 0, 1, 2 are ``<unk>``, ``<s>``, ``</s>``.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(behavior="isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted(set(string.printable.lower()) - set(string.whitespace))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )


def corpus() -> list[str]:
    """All that ``photo_edits`` can say, and the words of the conversation, each about as often as it is said."""
    templates = [template for operation in BASE_WORDINGS for template in requests(operation, "seen")]
    sentences = [
        *SENTENCES.values(),
        *(sentence for sentence, _ in REPAIR_SENTENCES.values()),
        *SCENE_SENTENCES.values(),
    ]
    filled = [
        template.format(shape=shape, other=other, color=color, old_color=color)
        for template in templates + sentences * 20
        for shape, other in zip(SHAPE_NAMES, SHAPE_NAMES[1:] + SHAPE_NAMES[:1], strict=True)
        for color in COLOR_NAMES
    ]
    return [*filled, *["USER: what will this image be like if '' ASSISTANT:"] * len(filled)]


def main(folder: Path = SMALL_TOKENIZER_DIR) -> None:
    """Train and write the tokenizer; an existing one is not replaced."""
    if (folder / "tokenizer.json").exists():
        raise ConfigError(
            f"{folder}: expected no tokenizer here, found one; shipped weights depend on it, move it away"
        )
    train_tokenizer(corpus(), VOCAB_SIZE - len(IMAGE_TOKENS) - len(VISUAL_TOKENS)).save_pretrained(folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
