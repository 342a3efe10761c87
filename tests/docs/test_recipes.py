"""README and how-to pages, followed to the letter in a copy of the project: every file written, every command run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mgie_lit.data.photo_edits.photographs import photographs

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
FENCED = re.compile(r'^```(bash|python|yaml)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a checkout's user has, with a photograph and some pairs."""
    folder = tmp_path / "project"
    for name in ("mgie_lit", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, start in {"mgie": f"{sys.executable} -m mgie_lit.cli.main", "python": sys.executable}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        (programs / name).chmod(0o755)
    photo = Image.open(photographs("test")[0].path).convert("RGB").resize((160, 120))
    photo.save(folder / "photo.jpg")
    return folder


def steps(text: str) -> list[tuple[str, str, str]]:
    """Language, file name (or "") and content of the blocks of a page."""
    return FENCED.findall(text)


def follow(text: str, project: Path, changes: dict[str, str] | None = None) -> str:
    """Write the files of a page and run its commands and Python, with some words changed to make it short.

    Returns:
        What was printed.
    """
    environment = os.environ | {
        "PATH": f"{project.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "OMP_NUM_THREADS": "1",
    }
    printed = []
    for language, name, content in steps(text):
        for before, after in (changes or {}).items():
            content = content.replace(before, after)
        if name:
            (project / name).write_text(content, encoding="utf-8")
            continue
        command = ["bash", "-e", "-c", content] if language == "bash" else [sys.executable, "-c", content]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return "\n".join(printed)


def make_pairs(folder: Path) -> None:
    """Pairs of the layout of `data=imagefolder`."""
    folder.mkdir()
    rows = []
    for split in ("train", "val", "test"):
        for photo in photographs(split):
            source = Image.open(photo.path).convert("RGB").resize((80, 64))
            for turn in range(2):
                name = f"{photo.name}-{turn}"
                source.save(folder / f"{name}.png")
                source.point(lambda value: value // 2).save(folder / f"{name}_dark.png")
                words = {"instruction": "make it darker", "expressive_instruction": "the photo becomes darker"}
                files = {"source_file_name": f"{name}.png", "target_file_name": f"{name}_dark.png", "split": split}
                rows.append(files | words)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_readme(project: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    use = text[text.index("## Use") : text.index("## The 7B model")]
    rows = [{"source_file_name": "photo.jpg", "instruction": "make it warmer"}]
    (project / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    short = "data.num_examples.train=128 data.num_examples.val=8 trainer.max_steps=4 trainer.val_check_interval=2"
    changes = {
        "experiment=quickstart ": f"experiment=quickstart {short} ",
        "checkpoint=runs/mine data=photo_edits": "checkpoint=runs/mine data=photo_edits data.num_examples.test=8",
        "predictions=folder/of/images data=photo_edits": (
            "predictions=runs/my_evaluation/images data=photo_edits data.num_examples.test=8"
        ),
        "mgie demo ": "mgie demo --help ",  # a server, which tests/demo start
        '"brighter.png"': '"brighter-2.png"',  # of Python; the command has written the first
    }
    follow(use, project, changes)
    for made in ("brighter.png", "brighter-2.png", "photo_edited.png", "edited/photo.png", "report.html"):
        assert (project / made).is_file(), made


def test_train_on_your_pairs(project: Path) -> None:
    make_pairs(project / "my_pairs")
    text = (HOW_TO / "train_on_your_pairs.md").read_text(encoding="utf-8")
    short = "max_steps=4 trainer.val_check_interval=1 callbacks.checkpoint.every_n_train_steps=2"
    follow(text, project, {"max_steps=2000": short, "max_steps=4000": "max_steps=6"})
    assert (project / "warmer.png").is_file()
    assert (project / "my_model" / "model_index.json").is_file()
    assert (project / "runs" / "mine" / "metrics.csv").read_text().count("\n") >= 3


def test_evaluate(project: Path) -> None:
    printed = follow(
        (HOW_TO / "evaluate.md").read_text(encoding="utf-8"),
        project,
        {"data.num_examples.test=40": "data.num_examples.test=20"},
    )
    assert re.search(r"L1 0\.0\d\d \[0\.0\d\d, 0\.0\d\d\], n = 20", printed)
    assert "brighter" in printed
    scores = [
        json.loads((project / "runs" / name / "metrics.json").read_text())["metrics"] for name in ("tiny", "theirs")
    ]
    assert scores[0]["l1"]["mean"] == pytest.approx(scores[1]["l1"]["mean"], abs=1e-9)


@pytest.mark.parametrize(
    ("page", "made"), [("data_set", "runs/tsv"), ("metric", "runs/contours"), ("system", "runs/bag")]
)
def test_add_something(page: str, made: str, project: Path) -> None:
    text = (HOW_TO / f"add_a_{page}.md").read_text(encoding="utf-8")
    assert len([name for _, name, _ in steps(text) if name]) >= 2
    follow(text, project)
    assert (project / made / "config.yaml").is_file()
    if page == "metric":
        scores = json.loads((project / made / "metrics.json").read_text())
        assert 0 < scores["metrics"]["contours"]["mean"] < scores["copy"]["contours"]["mean"]


@pytest.mark.parametrize("page", sorted(path.name for path in HOW_TO.glob("add_*.md")))
def test_code_of_the_recipes_is_in_the_projects_style(page: str, project: Path) -> None:
    files = []
    for _, name, content in steps((HOW_TO / page).read_text(encoding="utf-8")):
        if name.startswith("mgie_lit/"):
            (project / name).write_text(content, encoding="utf-8")
            files.append(name)
    assert files
    for command in ("ruff format --check", "ruff check"):
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command), *files],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
