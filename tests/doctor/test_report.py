from __future__ import annotations

import io
from dataclasses import replace

import pytest

from mgie_lit.doctor.diagnosis import Diagnosis
from mgie_lit.doctor.files import Requirement
from mgie_lit.doctor.report import PLAIN_WIDTH, print_diagnosis


def printed(diagnosis: Diagnosis) -> str:
    file = io.StringIO()
    print_diagnosis(diagnosis, file)
    return file.getvalue()


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_says_what_there_is(diagnosis: Diagnosis) -> None:
    lines = squeezed(printed(diagnosis))
    for line in (
        "wandb not installed",
        "devices 2 x NVIDIA H100 80GB HBM3, 79 GiB",
        "examples a step 4 a batch x 4 batches x 2 processes = 32",
        "faults kept none",
        "UNet 1,000,000 1,000,000",
        "autoencoder 20,000 -",
        "all 1,020,000 1,000,000",
        "Memory of each process (4 examples, 512 tokens, 256 px)",
        "kept for the backward 3.5 GiB",
        "of it UNet 3 GiB",
        "temporary results 512 MiB",
        "operations a step 200 x 10^12 in each process, rows at their longest",
        "a checkpoint 11.4 MiB",
        "size.start.mllm = weights/llava: here",
    ):
        assert line in lines
    assert lines[-1] == "The training can start."


def test_time_from_the_peak(diagnosis: Diagnosis) -> None:
    """200 TFLOP at 989 TFLOP/s: 0.404 s at 50 %, 0.674 s at 30 %."""
    text = printed(diagnosis)
    assert "0.40 to 0.67 s at 50% to 30% of the device's peak" in text
    assert "0.11 to 0.19 h for 1,000 steps" in text
    unknown = replace(diagnosis, used=diagnosis.devices[-1:])
    assert "unknown: the device's peak is not known here" in printed(unknown)


def test_plain_and_narrow_where_it_is_no_terminal(diagnosis: Diagnosis) -> None:
    long = "a folder whose name goes on, and on, and on " * 4
    need = Requirement("size.start.mllm", "x" * 200, "missing", long, long, long)
    text = printed(replace(diagnosis, requirements=[need], problems=[long], faults=["redraw_linear"] * 9))
    assert "\x1b" not in text
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= PLAIN_WIDTH
    assert text.count("x") >= 200, "a long name is wrapped, not cut"


def test_problems_come_last(diagnosis: Diagnosis) -> None:
    need = Requirement("data.root", "null", "missing", "pairs", "nothing is named", "docs/datasets.md")
    text = printed(replace(diagnosis, requirements=[need], problems=["data.root: nothing is named", "memory: no"]))
    assert squeezed(text)[-3:] == [
        "The training can not start as it is:",
        "- data.root: nothing is named",
        "- memory: no",
    ]
    assert "data.root: MISSING" in text
    assert "get it: docs/datasets.md" in text


@pytest.mark.parametrize(("gigabytes", "card"), [(3, "16 GiB"), (40, "48 GiB"), (70, "80 GiB"), (400, "more than 180")])
def test_which_card_would_do_where_there_is_none(gigabytes: int, card: str, diagnosis: Diagnosis) -> None:
    memory = replace(diagnosis.memory, weights=gigabytes * 2**30, activations=0, temporary=0)
    text = printed(replace(diagnosis, used=[], memory=memory))
    assert any(line.startswith(f"fits a device of {card}") for line in squeezed(text))
