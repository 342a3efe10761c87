"""`mgie prepare check` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mgie_lit.cli.main import main
from mgie_lit.data.readers.imagefolder import ImageFolder

KEYS = ("source_file_name", "target_file_name")
HERE = ["check.num_workers=0"]


@pytest.fixture
def folder(workplace: Path) -> Path:
    """Four pairs of random colours in each split: ``<split>-<0..3>``, ``source-<n>.png``, ``target-<n>.png``."""
    root = workplace / "pairs"
    for first, split in enumerate(("train", "val", "test")):
        (root / split).mkdir(parents=True)
        with (root / split / "metadata.jsonl").open("w") as file:
            for index in range(4):
                names = [f"source-{index}.png", f"target-{index}.png"]
                for seed, name in enumerate(names, start=10 * (4 * first + index)):
                    colors = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
                    Image.fromarray(colors).save(root / split / name)
                entry = {"id": f"{split}-{index}", "instruction": f"another one, number {first}{index}"}
                file.write(f"{json.dumps(entry | dict(zip(KEYS, names, strict=True)))}\n")
    return root


def run(folder: Path, *overrides: str) -> None:
    main(["prepare", "check", "data=imagefolder", f"data.root={folder}", *HERE, *overrides])


def test_a_clean_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 train, 4 val, 4 test examples: no findings"
    manifest = Path(lines[-1])
    assert manifest.read_text() == ""
    assert pq.read_table(manifest.with_name("findings.parquet")).num_rows == 0
    assert len(ImageFolder("train", root=folder, exclude=manifest)) == 4


def test_errors_are_listed_and_give_status_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "val" / "target-0.png").write_bytes(b"")
    (folder / "train" / "target-1.png").write_bytes((folder / "train" / "source-1.png").read_bytes())
    with pytest.raises(SystemExit, match="1"):
        run(folder, "check.also_exclude=[unedited]", "data.on_error=skip")
    out = capsys.readouterr().out
    assert "empty_file" in out
    manifest = Path(out.splitlines()[-1])
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [(entry["id"], entry["problem"].partition(":")[0]) for entry in entries] == [
        ("train-1", "unedited"),
        ("val-0", "empty_file"),
    ]
    assert len(ImageFolder("train", root=folder, exclude=manifest, on_error="skip")) == 3
    clean = [json.loads(line) for line in manifest.with_name("clean.jsonl").read_text().splitlines()]
    assert [entry["id"] for entry in clean[:4]] == ["train-0", "train-2", "train-3", "val-1"]
    assert len(clean) == 10
    assert {entry["split"] for entry in clean} == {"train", "val", "test"}


def test_splits_and_folder_are_chosen(folder: Path, capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    (folder / "val" / "target-0.png").unlink()
    run(folder, "check.splits=[test,train]", "check.dir=here")
    out = capsys.readouterr().out
    assert out.startswith("4 train, 4 test examples: no findings")
    assert out.splitlines()[-1] == "here/exclude.jsonl"
    assert (workplace / "here" / "findings.parquet").is_file()


def test_a_split_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "val" / "metadata.jsonl").unlink()
    run(folder)
    out = capsys.readouterr().out
    assert "no_split" in out
    assert "4 train, 4 test examples: 1 findings" in out


def test_expressive_instructions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = folder.parent / "texts.jsonl"
    rows = [{"id": name, "expressive_instruction": "it is red"} for name in ("train-0", "train-1", "train-2")]
    texts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(SystemExit, match="1"):
        run(folder, f"data.expressive={texts}", "check.splits=[train]")
    manifest = Path(capsys.readouterr().out.splitlines()[-1])
    expected = {"id": "train-3", "problem": "no_expressive: data.expressive has no text for it"}
    assert [json.loads(line) for line in manifest.read_text().splitlines()] == [expected]
    run(folder, "data.expressive=instruction", "check.splits=[train]", "check.dir=other")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["check.splits=[trian]"], "check.splits: expected all, or a list of train, val, test, got ['trian']"),
        (["check.splits=[]"], "check.splits: expected all, or a list of train, val, test, got []"),
        (["check.also_exclude=[leak]"], "check.also_exclude: expected a list of unedited, duplicate, got leak"),
        (["check.unedited_difference=-1"], "check.unedited_difference: expected a number >= 0, got -1"),
        (["check.splits=[val]", "data.root=nowhere"], "data.root: expected the folder of imagefolder, got nowhere"),
    ],
)
def test_mistakes(folder: Path, overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(folder, *overrides)
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.faults
def test_results_of_another_check_stay(folder: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "exclude.jsonl").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        run(folder, "check.dir=.")
    assert "check.dir: expected a folder without results, but exclude.jsonl exists" in capsys.readouterr().err
    assert (workplace / "exclude.jsonl").read_text() == "mine"


@pytest.mark.faults
def test_an_asked_split_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "val" / "metadata.jsonl").unlink()
    with pytest.raises(SystemExit, match="2"):
        run(folder, "check.splits=[val]")
    assert "no metadata.jsonl" in capsys.readouterr().err
