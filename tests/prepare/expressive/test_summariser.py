"""A tiny T5 that shortens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.summariser import Summariser

from .conftest import CPU

PROMPT = "summarize the following paragraph in 32 words:\n\n{paragraph}"


def summariser(folder: Path, **changes: Any) -> Summariser:  # noqa: ANN401
    made = Summariser(str(folder), **{"prompt": PROMPT, "max_length": 12} | changes)
    made.check()
    made.load(CPU)
    return made


def test_empty_paragraphs_stay_empty_and_the_others_in_place(t5_dir: Path) -> None:
    made = summariser(t5_dir)
    paragraphs = ["", "The sky is red.", "", "The sea {paragraph} is much bluer than before. It glows."]
    summaries = made.summarise(paragraphs)
    assert [bool(text) for text in summaries] == [False, True, False, True]
    assert summaries[1] == made.summarise([paragraphs[1]])[0]
    assert made.summarise(["", ""]) == ["", ""]
    assert all(text == " ".join(text.split()) for text in summaries)


def test_limits_hold(t5_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = summariser(t5_dir, max_length=20, min_length=9)
    generate, found = made._model.generate, []  # type: ignore[var-annotated]

    def record(**arguments: Any) -> Any:  # noqa: ANN401
        found.append((arguments["input_ids"].shape[1], generate(**arguments)))
        return found[-1][1]

    monkeypatch.setattr(made._model, "generate", record)
    made.max_input_tokens = 30
    made.summarise(["The sky over the sea is red. " * 50])
    num_read, ids = found[0][0], found[0][1][0].tolist()
    assert num_read == 30
    assert 9 <= len(ids) <= 20
    trigrams = [tuple(ids[first : first + 3]) for first in range(len(ids) - 2)]
    assert len(set(trigrams)) == len(trigrams)


def test_settings(t5_dir: Path) -> None:
    settings = Summariser(str(t5_dir), prompt=PROMPT).settings(CPU)
    expected = {"num_beams": 5, "min_length": 5, "max_length": 64, "no_repeat_ngram_size": 3, "max_input_tokens": 512}
    assert settings | expected == settings
    assert (settings["prompt"], settings["dtype"]) == (PROMPT, "float32")


def test_wrong_kind(llama_dir: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expressive\.summariser\.model: expected a folder with an encoder and decoder"
    ):
        Summariser(str(llama_dir), prompt=PROMPT).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "short:"}, r"summariser\.prompt: expected a text with {paragraph} in it once, got 'short:'"),
        ({"num_beams": 0}, r"summariser\.num_beams: expected at least 1, got 0"),
        ({"min_length": -1}, r"summariser\.min_length: expected at least 0, got -1"),
        ({"max_length": 4}, r"summariser\.max_length: expected at least 5, got 4"),
        ({"no_repeat_ngram_size": -1}, r"summariser\.no_repeat_ngram_size: expected at least 0, got -1"),
        ({"max_input_tokens": 0}, r"summariser\.max_input_tokens: expected at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Summariser("folder", **{"prompt": PROMPT} | changes)
