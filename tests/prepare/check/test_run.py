"""Every finding on a broken data set, and none on a clean one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.check import run
from mgie_lit.prepare.check.examine import Limits
from mgie_lit.prepare.check.findings import Finding
from mgie_lit.prepare.check.run import check
from mgie_lit.testing.datasets import write_imagefolder
from mgie_lit.types import EditExample

MakeRow = Callable[..., EditExample]
SPLITS = ("train", "val", "test")


@dataclass
class Rows:
    rows: list[EditExample]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EditExample:
        return self.rows[index]

    def sample_id(self, index: int) -> str:
        return self.rows[index].sample_id


def found(*splits: list[EditExample], **options: object) -> list[Finding]:
    """Findings in rows of train, val and test, without processes."""
    datasets = {name: Rows(rows) for name, rows in zip(SPLITS, splits, strict=False)}
    limits = options.pop("limits", Limits())
    return check(datasets, limits, num_workers=0, **options)  # type: ignore[arg-type]


def briefly(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.split, finding.sample_id, finding.kind) for finding in findings]


def in_files(folder: Path, *splits: str, num_workers: int = 0) -> list[Finding]:
    return check({name: ImageFolder(name, root=folder) for name in splits}, Limits(), num_workers=num_workers)


def test_a_clean_set_has_no_findings(row: MakeRow, folder: Path) -> None:
    assert found([row(0), row(1)], [row(2)], [row(3), row(4)], expressive={}) == []
    assert in_files(folder, *SPLITS) == []


def test_images_that_do_not_open(folder: Path) -> None:
    train = folder / "train"
    (train / "source-0.png").unlink()
    (train / "target-1.png").write_bytes(b"")
    whole = (train / "target-2.png").read_bytes()
    (train / "target-2.png").write_bytes(whole[: len(whole) // 2])
    (train / "mask-3.png").write_text("no image")
    findings = in_files(folder, "train", "test")
    assert briefly(findings) == [
        ("train", "train-0", "missing_file"),
        ("train", "train-1", "empty_file"),
        ("train", "train-2", "unreadable"),
        ("train", "train-3", "unreadable"),
    ]
    names = [Path(finding.path).relative_to(train).as_posix() for finding in findings]
    assert names == ["source-0.png", "target-1.png", "target-2.png", "mask-3.png"]
    assert all("metadata.jsonl, line" in finding.detail for finding in findings)


def test_words_are_judged_without_images(folder: Path) -> None:
    metadata = folder / "train" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("turn it into number 100", "nan"))
    (folder / "train" / "source-0.png").unlink()
    findings = briefly(in_files(folder, "train", "test"))
    assert findings == [("train", "train-0", "missing_file"), ("train", "train-0", "absurd_text")]


@pytest.mark.slow
def test_processes_find_the_same_as_one(folder: Path) -> None:
    (folder / "train" / "source-0.png").write_bytes(b"")
    (folder / "test" / "target-1.png").unlink()
    assert len(in_files(folder, *SPLITS)) == 2
    assert in_files(folder, *SPLITS, num_workers=2) == in_files(folder, *SPLITS)


def test_a_target_is_needed_for_training_only(row: MakeRow) -> None:
    findings = found([row(0, target=None)], [row(1, target=None)], [row(2, target=None)])
    assert briefly(findings) == [("train", "row-0", "no_target"), ("val", "row-1", "no_target")]


def test_sizes(row: MakeRow) -> None:
    halved, squeezed = row(0), row(1)
    halved = row(0, target=halved.target.resize((24, 16)))  # type: ignore[union-attr]
    squeezed = row(1, target=squeezed.target.resize((32, 32)))  # type: ignore[union-attr]
    findings = found([halved, squeezed])
    assert briefly(findings) == [("train", "row-0", "different_size"), ("train", "row-1", "different_shape")]
    assert findings[1].detail == "source 48 x 32, target 32 x 32"
    assert [finding.severity for finding in findings] == ["info", "error"]
    wide = found([squeezed], limits=Limits(aspect_tolerance=0.5))
    assert briefly(wide) == [("train", "row-1", "different_size")]


def test_rounding_to_whole_pixels_is_no_other_shape(row: MakeRow) -> None:
    target = row(0).target
    assert target is not None
    findings = found([row(0, source=target.resize((301, 200)), target=target.resize((30, 20)))])
    assert "different_shape" not in {finding.kind for finding in findings}


def test_unedited(row: MakeRow) -> None:
    source = row(0).source
    grain = np.random.default_rng(0).integers(0, 2, (32, 48, 3), dtype=np.uint8)
    noisy = Image.fromarray(np.asarray(source) + grain)
    edited = source.copy()
    edited.paste((255, 255, 255), (4, 4, 8, 8))
    rows = [row(0, target=source.copy()), row(1, source=source, target=noisy), row(2, source=source, target=edited)]
    findings = found(rows)
    assert briefly(findings) == [("train", "row-0", "unedited"), ("train", "row-1", "unedited")]
    assert findings[0].detail == "the target has the same pixels"
    assert findings[1].detail == "the target differs by 1 of 255 at most"
    assert briefly(found(rows, limits=Limits(unedited_difference=0))) == [("train", "row-0", "unedited")]


def test_a_compressed_copy_is_unedited(row: MakeRow) -> None:
    source = Image.fromarray(skimage.data.astronaut()).resize((96, 96))
    file = io.BytesIO()
    source.save(file, "JPEG", quality=90)
    rows = [row(0, source=source, target=Image.open(file).convert("RGB"))]
    (finding,) = found(rows)
    assert (finding.kind, finding.detail) == ("unedited", "the target differs as if it were compressed again")
    assert found(rows, limits=Limits(unedited_quality=100)) == []
    assert found(rows, limits=Limits(unedited_difference=0)) == []


def test_absurd_texts_of_both_kinds(row: MakeRow) -> None:
    rows = [row(0, instruction="?!"), row(1, expressive_instruction="nan"), row(2, instruction="x" * 30)]
    findings = found(rows, limits=Limits(max_text_length=29))
    assert [(finding.sample_id, finding.detail.partition(":")[0]) for finding in findings] == [
        ("row-0", "instruction"),
        ("row-1", "expressive_instruction"),
        ("row-2", "instruction"),
    ]
    assert {finding.kind for finding in findings} == {"absurd_text"}


def test_expressive_instructions_where_they_are_needed(row: MakeRow) -> None:
    rows = [row(0), row(1, expressive_instruction=None), row(2, expressive_instruction=None)]
    assert found(rows) == []
    findings = found(rows, expressive={"row-1": "\x07", "row-2": None})
    assert briefly(findings) == [("train", "row-1", "absurd_text"), ("train", "row-2", "no_expressive")]


def test_duplicates(row: MakeRow) -> None:
    again = row(0, sample_id="again", instruction=" MAKE it like number 0")
    other_words = row(0, sample_id="other words", instruction="do the first thing")
    other_target = row(0, sample_id="other target", target=row(9).target)
    findings = found([row(0), again, other_words, other_target])
    assert briefly(findings) == [("train", "again", "duplicate"), ("train", "other words", "repeated_pair")]
    assert findings[0].detail == "same pixels and words as row-0"
    assert findings[1].detail == "same pixels as row-0, other words"


def test_near_duplicates_differ_in_pixels_and_look_the_same(row: MakeRow) -> None:
    first = row(0)
    assert first.target is not None
    larger = row(1, source=first.source.resize((96, 64)), target=first.target.resize((96, 64)))
    other_edit = row(2, source=first.source.resize((96, 64)))
    findings = [finding for finding in found([first, larger, other_edit]) if finding.kind != "different_size"]
    assert briefly(findings) == [("train", "row-1", "near_duplicate")]
    assert findings[0].severity == "info"
    assert findings[0].detail == "looks like row-0"


@pytest.mark.parametrize(("ours", "theirs"), [("source", "source"), ("source", "target"), ("target", "source")])
def test_leaks_of_either_image(row: MakeRow, ours: str, theirs: str) -> None:
    test_row = row(5)
    leaking = row(1, **{ours: getattr(test_row, theirs)})
    findings = found([row(0), leaking], [row(2)], [row(3), test_row])
    assert briefly(findings) == [("train", "row-1", "leak")]
    assert findings[0].severity == "error"
    assert findings[0].detail == f"its {ours} has the pixels of the {theirs} of row-5 in test"


def test_a_leak_of_validation_into_test(row: MakeRow) -> None:
    findings = found([row(0)], [row(1, source=row(2).source)], [row(2)])
    assert briefly(findings) == [("val", "row-1", "leak")]


def test_near_leaks(row: MakeRow) -> None:
    scaled = row(2).source.resize((96, 64))
    findings = found([row(0), row(1, source=scaled, target=row(7).target)], [], [row(2)])
    assert ("train", "row-1", "near_leak") in briefly(findings)
    assert {finding.kind for finding in findings} == {"near_leak", "different_size"}


def test_images_that_did_not_open_are_equal_to_nothing(folder: Path) -> None:
    for split in ("train", "test"):
        for index in range(4):
            (folder / split / f"source-{index}.png").write_bytes(b"")
    findings = in_files(folder, "train", "test")
    assert {finding.kind for finding in findings} == {"empty_file"}
    assert len(findings) == 8


def test_an_undivided_set_is_one_finding_and_not_a_leak_for_each_example(tmp_path: Path) -> None:
    write_imagefolder(tmp_path)
    findings = in_files(tmp_path, "train", "test")
    assert [finding for finding in briefly(findings) if "leak" in finding[2]] == []
    assert findings[-1].kind == "undivided"
    assert findings[-1].detail == "8 examples are in train and in test: scores on them mean nothing"


def test_owners_that_differ_only_by_split_keep_their_own_duplicates(row: MakeRow) -> None:
    findings = found([row(0), row(0, sample_id="twin")], [row(1), row(1, sample_id="twin of val")])
    assert briefly(findings) == [("train", "twin", "duplicate"), ("val", "twin of val", "duplicate")]


@pytest.mark.faults
def test_faulty_options() -> None:
    with pytest.raises(ConfigError, match=r"check\.num_workers: expected a number >= 0, or null for all cores, got -1"):
        check({}, Limits(), num_workers=-1)
    with pytest.raises(ConfigError, match=r"check\.aspect_tolerance: expected a number >= 0, got -0.1; raise it"):
        Limits(aspect_tolerance=-0.1)
    with pytest.raises(ConfigError, match=r"check\.max_text_length: expected a number >= 1, got 0"):
        Limits(max_text_length=0)
    with pytest.raises(ConfigError, match=r"check\.unedited_quality: expected a JPEG quality of 1 to 100, got 0; cha"):
        Limits(unedited_quality=0)


class _Deadly(Rows):
    """Kills the process that opens it, as the system does when memory is short."""

    def __getitem__(self, index: int) -> EditExample:
        import os

        os._exit(9)


@pytest.mark.slow
@pytest.mark.faults
def test_a_worker_that_dies(row: MakeRow) -> None:
    with pytest.raises(DataError, match=r"a worker died, probably for lack of memory; .* check\.num_workers=1"):
        check({"train": _Deadly([row(0)])}, Limits(), num_workers=1)


def test_workers_get_the_data_once(row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_datasets", {})
    run._install({"train": Rows([row(0), row(1, instruction="")])})
    examined = run._examine_job(("train", range(1, 2)), Limits())
    assert briefly(examined.findings) == [("train", "row-1", "absurd_text")]


def test_manifest_is_read_back(tmp_path: Path, folder: Path) -> None:
    from mgie_lit.prepare.check.findings import exclusions
    from mgie_lit.prepare.check.report import write_exclusions

    (folder / "train" / "source-0.png").unlink()
    path = tmp_path / "new" / "exclude.jsonl"
    write_exclusions(exclusions(in_files(folder, "train")), path)
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["problem"].startswith("missing_file: train-0")
    kept = ImageFolder("train", root=folder, exclude=path, on_error="skip")
    assert len(kept) == 3
    assert "train-0" not in {kept.sample_id(index) for index in range(3)}
