from __future__ import annotations

import functools

import pytest
import torch

from mgie_lit.metrics.text import ExpressiveExact, ExpressiveOperation, normalise_text


def first_word(text: str) -> str | None:
    words = normalise_text(text).split()
    return words[0] if words and words[0] in {"brighter", "darker"} else None


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The sky is  RED.", "the sky is red"),
        (" “quoted”, well-lit\n", "quoted well lit"),
        ("GROSSE / Straße", "grosse strasse"),
        ("snow_man", "snow man"),
        ("!?", ""),
    ],
)
def test_normalise_text(text: str, plain: str) -> None:
    assert normalise_text(text) == plain


def test_exact_ignores_case_punctuation_and_blanks() -> None:
    scores = ExpressiveExact().score(
        ["The sky is red.", "the sky is blue", "", ""], ["the  sky is RED", "The sky is red", "x", None]
    )
    assert scores[:3].tolist() == [1.0, 0.0, 0.0]
    assert scores[3].isnan()


def test_operation_compares_what_the_parser_reads() -> None:
    metric = ExpressiveOperation(first_word)
    scores = metric.score(
        ["brighter photo", "darker photo", "what?", "brighter", "what?", "brighter"],
        ["Brighter image.", "brighter image", "darker", None, "what?", ""],
    )
    assert scores[:3].tolist() == [1.0, 0.0, 0.0]
    assert scores[3:].isnan().all()


def test_metric_mean_counts_what_applies() -> None:
    metric = ExpressiveExact()
    metric.update(["a", "b", "c"], ["a", "x", None])
    assert torch.equal(metric.compute(), torch.tensor(0.5, dtype=torch.float64))


class CallableParser:
    def __call__(self, text: str) -> str | None:
        return text


@pytest.mark.parametrize(
    ("parser", "name"),
    [(first_word, "first_word"), (functools.partial(first_word), "first_word"), (CallableParser(), "CallableParser")],
)
def test_describe_names_the_parser(parser: functools.partial[str | None], name: str) -> None:
    assert str(ExpressiveOperation(parser).describe()["parser"]).endswith(f".{name}")
