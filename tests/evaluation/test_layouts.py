from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.evaluation.layouts import check_choices, file_stem, write_magicbrush
from mgie_lit.evaluation.systems import PredictionFolder
from mgie_lit.types import EditExample

if TYPE_CHECKING:
    from pathlib import Path

IDS = ["7-1", "7-2", "7-3", "8-1"]


def example(sample_id: str) -> EditExample:
    return EditExample(sample_id, Image.new("RGB", (4, 4), "red"), None, "do")


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder as MagicBrush's script wants it: later turns from their true sources, and from the own output."""
    for turns, start in (("given", 10), ("chain", 50)):
        images = []
        for index, name in enumerate(IDS):
            path = tmp_path / turns / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (4, 4), (start + index,) * 3).save(path)
            images.append((name, path))
        write_magicbrush(images, tmp_path / "both", turns=turns)
    return tmp_path / "both"


def test_names_are_those_of_the_published_script(both: Path) -> None:
    names = sorted(path.relative_to(both).as_posix() for path in both.rglob("*.png"))
    assert names == [
        *("7/7_1.png", "7/7_inde_2.png", "7/7_inde_3.png", "7/7_iter_2.png", "7/7_iter_3.png", "8/8_1.png"),
    ]


@pytest.mark.parametrize(("turns", "levels"), [("given", [50, 11, 12, 53]), ("chain", [50, 51, 52, 53])])
def test_both_kinds_are_read_again(both: Path, turns: str, levels: list[int]) -> None:
    system = PredictionFolder(both, layout="magicbrush", turns=turns)
    system.check(IDS)
    edits = system([example(name) for name in IDS], seed=0)
    assert [edit.image.getpixel((0, 0))[0] for edit in edits if edit] == levels


def test_faults_are_named_by_their_files(both: Path) -> None:
    (both / "7/7_iter_2.png").unlink()
    (both / "9").mkdir()
    (both / "7/7_1.png").rename(both / "9/9_1.png")
    with pytest.raises(DataError) as caught:
        PredictionFolder(both, layout="magicbrush", turns="chain").check(IDS)
    message = str(caught.value)
    assert "expected one <session>/<session>_1, _inde_<turn>, _iter_<turn>.png|jpg|jpeg|webp for each of 4" in message
    assert "2 missing: 7/7_1, 7/7_iter_2; 1 extra: 9/9_1;" in message


def test_ids_without_a_turn_do_not_fit(both: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected ids <session>-<turn> for magicbrush, .* got 'cat'; use"):
        PredictionFolder(both, layout="magicbrush").check(["cat"])


def test_magicbrush_has_one_edit_a_turn() -> None:
    with pytest.raises(ConfigError, match="num_seeds: expected 1 with predictions_layout=magicbrush"):
        file_stem("7-1", layout="magicbrush", turns="given", seed=1)


@pytest.mark.parametrize(
    ("layout", "turns", "message"),
    [
        ("coco", "given", "predictions_layout: expected one of ids, magicbrush, got 'coco'"),
        ("ids", "all", "turns: exp"),
    ],
)
def test_unknown_names_are_refused(layout: str, turns: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_choices(layout, turns)


def test_folders_of_further_seeds(tmp_path: Path) -> None:
    (tmp_path / "seed-5").mkdir()
    (tmp_path / "seed-6").mkdir()
    for name in ("a.png", "seed-5/a.png", "seed-5/b.png", "seed-6/a.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    PredictionFolder(tmp_path).check(["a"])
    with pytest.raises(DataError, match=r"1 missing: b; .*|2 missing: b"):
        PredictionFolder(tmp_path, seeds=(4, 5)).check(["a", "b"])
    with pytest.raises(DataError, match="got: 1 extra: seed-5/b;"):
        PredictionFolder(tmp_path, seeds=(4, 5)).check(["a"])


def test_damaged_png_is_found_without_decoding_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 90).convert("RGB").save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"1 unreadable: .*a.png: expected a whole image"):
        PredictionFolder(tmp_path).check(["a"])
