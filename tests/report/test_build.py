# ruff: noqa: RUF001 - the page has true minus signs and dashes
from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from importlib.resources import files
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from PIL import Image

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.report.build import shell_command, write_report

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
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("script") == 1  # its own few lines; see that they load nothing
    assert not re.search(
        r"\b(fetch|import|XMLHttpRequest|eval)\b", page.words[page.words.index("// Filters and order") :]
    )
    assert len(page.ids) == len(set(page.ids))


def test_the_page_says_what_matters(page: Page) -> None:
    for text in (
        "run, eval",
        "mgie_lit · instruction-guided image editing",
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
    assert page.tags.count("img") == 4 * (40 + 3 + 3)
    assert "Shown are 40 of 40 samples, thumbnails of at most 224 px" in page.words


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
    assert "two minus one" in pair.words
    assert "Its command line is not recorded in this directory." in pair.words
    assert "svg" not in pair.tags


def test_a_runs_last_grid_is_shown(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", 30)
    (run / "images").mkdir()
    for step in (10, 20):
        Image.new("RGB", (40, 40)).save(run / "images" / f"step-{step:08d}.png")
    write_report([run], tmp_path / "a.html")
    assert "run: validation edits at step 20" in Page((tmp_path / "a.html").read_text(encoding="utf-8")).words


@pytest.mark.slow
def test_four_hundred_samples_stay_small(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "eval", 400, pictures=False)
    for kind in ("sources", "images", "targets"):
        (folder / kind).mkdir()
        noise = Image.effect_noise((256, 256), 60).convert("RGB")  # the worst case for JPEG
        noise.save(tmp_path / "noise.png")
        for index in range(400):
            (folder / kind / f"test-{index:06d}.png").hardlink_to(tmp_path / "noise.png")
        (tmp_path / "noise.png").unlink()
    write_report([folder], tmp_path / "a.html")
    assert 1e6 < (tmp_path / "a.html").stat().st_size < 20e6
    assert "Shown are 400 of 400 samples" in (tmp_path / "a.html").read_text()


def test_the_same_tables_lie_beside_the_page(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folders = [make_evaluation(tmp_path / name, 12, pictures=False) for name in ("one", "two")]
    (folders[1] / "config.yaml").write_text("optimizer: {lr: 1}\n")
    write_report(folders, tmp_path / "r.html")
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    for heading in ("## Systems", "## Paired differences", "### two minus one, by operation", "## Config differences"):
        assert heading in text
    assert sorted(path.name for path in (tmp_path / "r_tables").iterdir()) == [
        "config_differences.csv",
        "paired_differences.csv",
        "paired_differences_by_category.csv",
        "systems.csv",
    ]


def test_different_data_stand_apart(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folders = [make_evaluation(tmp_path / name, 6, pictures=False) for name in ("one", "two")]
    table = pd.read_parquet(folders[1] / "per_sample.parquet")
    table.assign(sample_id="other-" + table["sample_id"]).to_parquet(folders[1] / "per_sample.parquet")
    write_report(folders, tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "Evaluations of different data stand in tables of their own" in page.words
    assert "two minus one" not in page.words


def test_a_sweep_has_its_trials(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    make_run(tmp_path / "sweep" / "0", 20)
    (tmp_path / "sweep" / "1").mkdir()
    write_report([tmp_path / "sweep"], tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "2 trials, 2 not done" in page.words
    assert "stopped at step 20 of 300" in page.words
    assert "script" not in page.tags  # nothing to filter


@pytest.mark.parametrize("name", ["report.html", "report.md", "report_tables"])
def test_nothing_is_overwritten(tmp_path: Path, make_run: Callable[..., Path], name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"expected a new file, but .*{name} exists; choose another name"):
        write_report([make_run(tmp_path / "run", 5)], tmp_path / "report.html")
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "run"]


def test_a_failed_report_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match="expected a training run"):
        write_report([tmp_path / "other"], tmp_path / "report.html")
    with pytest.raises(ConfigError, match="expected at least one run or evaluation directory, got none"):
        write_report([], tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_commands_are_quoted_readably() -> None:
    words = ["mgie", "eval", "paths.run_dir='/tmp/a b'", "seed=1", "a b", "it's $5", "metrics=[a,b]"]
    command = shell_command(words)
    assert command.startswith("mgie eval \"paths.run_dir='/tmp/a b'\" seed=1 'a b' ")
    assert shlex.split(command) == words


def test_words_of_tables_are_not_broken() -> None:
    style = (files("mgie_lit.report") / "templates" / "style.css").read_text(encoding="utf-8")
    rules = [
        rule for rule in style.split("}") if re.search(r"(^|[\s.])(th|td|blocks|trials|configs)\b", rule.split("{")[0])
    ]
    assert len(rules) > 10
    assert not [rule for rule in rules if "overflow-wrap" in rule]


def test_a_sample_says_no_word_twice(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "eval", 4)
    table = pd.read_parquet(folder / "per_sample.parquet")
    table["kind"] = table["operation"]
    table.to_parquet(folder / "per_sample.parquet")
    summary = json.loads((folder / "metrics.json").read_text())
    summary["groups"]["kind"] = summary["groups"]["operation"]
    (folder / "metrics.json").write_text(json.dumps(summary))
    write_report([folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"test-000001 · [^<]*darker", page)
    assert not re.search(r"test-000001 · [^<]*darker[^<]*darker", page)
