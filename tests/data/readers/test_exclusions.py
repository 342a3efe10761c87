from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mgie_lit.data.readers.exclusions import check_on_error, find_bad, read_exclusions, report_bad
from mgie_lit.errors import ConfigError, DataError

PROBLEMS = {f"a{number}": "cut short" for number in range(6)}


def test_list_of_bad_examples(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "problem": "empty", "size": 3}\n{"id": "b"}\n')
    assert read_exclusions(tmp_path / "bad.jsonl", "data") == {"a": "empty", "b": "no reason given"}


@pytest.mark.faults
def test_lists_that_can_not_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.exclude: expected a file made by `mgie prepare check`, got .*none"):
        read_exclusions(tmp_path / "none.jsonl", "data")
    (tmp_path / "bad.jsonl").write_text('{"problem": "empty"}')
    with pytest.raises(DataError, match=r"line 1: expected a text under `id`, got None; repair it"):
        read_exclusions(tmp_path / "bad.jsonl", "data")


@pytest.mark.faults
def test_on_error_is_one_of_two_words() -> None:
    assert check_on_error("skip", "data") == "skip"
    with pytest.raises(ConfigError, match=r"data\.on_error: expected one of error, skip, got 'ignore'"):
        check_on_error("ignore", "data")


def test_every_example_is_tried_and_order_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert find_bad(range(3, 9), lambda position: "bad" if position % 3 == 0 else "", "evr") == {3: "bad", 6: "bad"}
    assert not caplog.text
    assert find_bad(range(3, 9), lambda position: "bad" if position < 6 else "", "evr", wanted=2) == dict.fromkeys(
        (3, 4, 5), "bad"
    )
    assert find_bad(range(1000), lambda _: "", "evr") == {}
    assert "opening all 1000 examples of evr" in caplog.text


@pytest.mark.faults
def test_bad_examples_stop_or_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    report_bad({}, 9, on_error="error", option="data")
    with pytest.raises(DataError, match=r"6 of 9 examples are bad \(a0: cut short; .*a4: cut short; \.\.\.\); repair"):
        report_bad(PROBLEMS, 9, on_error="error", option="data")
    report_bad(PROBLEMS, 9, on_error="skip", option="data")
    assert "data.on_error=skip: left out 6 of 9 examples: a0: cut short; a1" in caplog.text
