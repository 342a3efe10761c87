from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mgie_lit.errors import DataError
from mgie_lit.evaluation.systems import ChecksSamples, PredictionFolder
from mgie_lit.types import EditExample

if TYPE_CHECKING:
    from pathlib import Path


def example(sample_id: str) -> EditExample:
    return EditExample(sample_id, Image.new("RGB", (4, 4), "red"), None, "do")


def save(folder: Path, *names: str) -> None:
    for name in names:
        Image.new("RGB", (4, 4), "blue").save(folder / name)


def test_predictions_are_matched_by_id(tmp_path: Path) -> None:
    save(tmp_path, "a.png", "b.JPG", "c.jpeg", "d.v2.webp")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "seed-1").mkdir()
    system = PredictionFolder(tmp_path)
    assert isinstance(system, ChecksSamples)
    system.check(["a", "b", "c", "d.v2"])
    edits = system([example("d.v2"), example("a")], seed=0)
    assert all(edit is not None and edit.image.getpixel((0, 0))[2] > 200 for edit in edits)


def test_all_faults_are_in_one_message(tmp_path: Path) -> None:
    save(tmp_path, "twice.png", "twice.jpg", "other.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        PredictionFolder(tmp_path).check(["twice", "broken", *(f"m{index}" for index in range(27))])
    message = str(caught.value)
    assert f"for each of 29 samples in {tmp_path}, got: " in message
    assert "27 missing: m0, m1, m2, m3, m4, m5, " in message
    assert "1 extra: other;" in message
    assert "1 ambiguous: twice (twice.jpg, twice.png);" in message
    assert f"1 unreadable: {tmp_path / 'broken.png'}: expected an image" in message
    assert message.endswith("score only what is there with allow_missing=true")


def test_allow_missing_passes_what_is_absent_but_not_what_is_wrong(tmp_path: Path) -> None:
    save(tmp_path, "a.png", "other.png")
    system = PredictionFolder(tmp_path, allow_missing=True)
    system.check(["a", "b"])
    first, second = system([example("a"), example("b")], seed=0)
    assert first is not None
    assert second is None
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 unreadable: "):
        PredictionFolder(tmp_path, allow_missing=True).check(["a", "b"])


def test_seeds_that_nobody_asked_for_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "seed-1").mkdir()
    save(tmp_path, "a.png", "seed-1/a.png")
    PredictionFolder(tmp_path, seeds=(0, 1)).check(["a"])
    assert caplog.text == ""
    PredictionFolder(tmp_path).check(["a"])
    assert "also holds seed-1, which is not scored; num_seeds=<n> asks for more" in caplog.text


def test_accents_match_however_they_are_stored(tmp_path: Path) -> None:
    save(tmp_path, "cafe\u0301.png")  # as some file systems give it back
    system = PredictionFolder(tmp_path)
    system.check(["caf\u00e9"])
    (edit,) = system([example("caf\u00e9")], seed=0)
    assert edit is not None


def test_allow_missing_needs_one_match(tmp_path: Path) -> None:
    save(tmp_path, "other.png")
    with pytest.raises(DataError, match="got: none match; name the files after"):
        PredictionFolder(tmp_path, allow_missing=True).check(["a", "b"])


def test_folder_of_an_evaluation_points_to_its_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=rf"1 missing: a; did you mean {tmp_path}/images\?"):
        PredictionFolder(tmp_path).check(["a"])


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions: expected a folder .*, got .*/nowhere, which is not a folder"):
        PredictionFolder(tmp_path / "nowhere")
