# ruff: noqa: RUF001 - the page has true minus signs and dashes
from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.report.build import write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOID = {"meta", "img", "br", "link", "input", "hr"}
SELF_CLOSING = {"path", "use", "rect"}  # SVG


class Page(HTMLParser):
    """Collects tags, ids and addresses, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "action"}:
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def page(tmp_path: Path, make_run: Callable[..., Path], make_evaluation: Callable[..., Path]) -> Page:
    output = tmp_path / "new" / "report.html"
    write_report([make_run(tmp_path / "run", 120), make_evaluation(tmp_path / "eval", 40)], output)
    return Page(output.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_else(page: Page) -> None:
    assert not page.open
    assert page.addresses
    assert all(re.match(r"data:image/jpeg;base64,|#", address) for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_says_what_matters(page: Page) -> None:
    for text in (
        "run, eval",
        "commit 0123456789",
        "torch 2.13.0",
        "Beats copying on L1, SSIM and PSNR.",
        "−0.1400 to −0.1000",
        "learning rates",
        "operation",
        "3 worst by L1",
        "wanted: the photo becomes negative",
        "mgie train experiment=quickstart trainer.max_steps=300",
        "mgie eval checkpoint=runs/train/one split=test",
        "max_steps: 300",
        "num_inference_steps: 4",
    ):
        assert text in page.words
    assert page.tags.count("svg") == 8
    assert page.tags.count("img") == 3 * (24 + 3 + 3)


def test_strangers_words_are_only_words(page: Page) -> None:
    assert "<script>alert('no')</script>" in page.words
    assert "note: <b>bold</b> & plain" in page.words


def test_only_evaluations_or_only_runs(
    tmp_path: Path, make_run: Callable[..., Path], make_evaluation: Callable[..., Path]
) -> None:
    write_report([make_run(tmp_path / "run", 30)], tmp_path / "a.html")
    alone = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "copying" not in alone.words
    assert "last logged step 29" in alone.words
    folders = [
        make_evaluation(tmp_path / "one", 12),
        make_evaluation(tmp_path / "two", 12, pictures=False, recorded=False, errors={"l1": 0.1, "ssim": 0.0}),
    ]
    write_report(folders, tmp_path / "b.html")
    pair = Page((tmp_path / "b.html").read_text(encoding="utf-8"))
    assert not pair.open
    assert "Beats copying on PSNR; does not on L1 or SSIM." in pair.words
    assert "Its command line is not recorded in this directory." in pair.words
    assert "svg" not in pair.tags


def test_a_runs_last_grid_is_shown(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", 30)
    (run / "images").mkdir()
    for step in (10, 20):
        Image.new("RGB", (40, 40)).save(run / "images" / f"step-{step:08d}.png")
    write_report([run], tmp_path / "a.html")
    assert "run: validation edits at step 20" in Page((tmp_path / "a.html").read_text(encoding="utf-8")).words


def test_four_hundred_samples_stay_small(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "eval", 400, pictures=False)
    for kind in ("sources", "images", "targets"):
        (folder / kind).mkdir()
        noise = Image.effect_noise((512, 512), 60).convert("RGB")  # the worst case for JPEG
        noise.save(tmp_path / "noise.png")
        for index in range(400):
            (folder / kind / f"test-{index:06d}.png").hardlink_to(tmp_path / "noise.png")
        (tmp_path / "noise.png").unlink()
    write_report([folder], tmp_path / "a.html")
    assert 1e5 < (tmp_path / "a.html").stat().st_size < 6e6


def test_nothing_is_overwritten(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    output = tmp_path / "report.html"
    output.write_text("mine")
    with pytest.raises(ConfigError, match=r"expected a new file, but .*report.html exists; choose another name"):
        write_report([make_run(tmp_path / "run", 5)], output)
    assert output.read_text() == "mine"


def test_a_failed_report_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match="expected a training run"):
        write_report([tmp_path / "other"], tmp_path / "report.html")
    with pytest.raises(ConfigError, match="expected at least one run or evaluation directory, got none"):
        write_report([], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
