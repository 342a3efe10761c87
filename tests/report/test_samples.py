from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest
from PIL import Image

from mgie_lit.report.read import Evaluation, read_directories
from mgie_lit.report.samples import SIDES, SampleGrid, choose_even, make_grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def evaluations(*folders: Path) -> list[Evaluation]:
    return read_directories(folders)[1]


def grid_of(*folders: Path, budget: int = 10**7) -> SampleGrid:
    grid = make_grid(evaluations(*folders), budget=budget)
    assert grid is not None
    return grid


def test_each_system_has_its_edit_beside_source_and_target(
    tmp_path: Path, make_evaluation: Callable[..., Path]
) -> None:
    grid = grid_of(make_evaluation(tmp_path / "a", 10), make_evaluation(tmp_path / "b", 5))
    assert grid.systems == ["a", "b"]
    cards = {card.sample_id: card for card in grid.cards}
    assert len(cards) == 10
    card = cards["test-000001"]
    assert card.source
    assert card.target
    assert [(output.system, bool(output.edited), bool(output.difference)) for output in card.outputs] == [
        (0, True, True),
        (1, True, True),
    ]
    assert [output.system for output in cards["test-000007"].outputs] == [0]
    assert card.categories == {"wording": "seen", "operation": "darker"}  # family has one value
    assert grid.filters["wording"] == ["new", "seen"]
    assert "please make it darker (1)" in card.search_text
    assert card.outputs[0].badness == pytest.approx(0.0301)


def test_the_first_images_come_from_whoever_keeps_them(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folders = [make_evaluation(tmp_path / name, 3) for name in "ab"]
    for path in (folders[0] / "sources").iterdir():
        path.unlink()
    assert all(card.source for card in grid_of(*folders).cards)


def test_badness_follows_the_direction(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    (entry,) = evaluations(make_evaluation(tmp_path / "a", 3))
    entry.summary["metrics"] = {"ssim": entry.summary["metrics"]["ssim"]}
    entry.table["ssim"] = [0.25, None, 0.75]
    grid = make_grid([entry], budget=10**7)
    assert grid
    assert {card.sample_id[-1]: card.outputs[0].badness for card in grid.cards} == {"0": -0.25, "1": None, "2": -0.75}


def test_without_edited_images_there_is_no_grid(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    assert make_grid(evaluations(make_evaluation(tmp_path / "a", 3, pictures=False)), budget=10**7) is None


def test_thumbnails_shrink_until_they_fit(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 6)
    for kind in ("sources", "images", "targets"):
        for path in (folder / kind).iterdir():
            Image.effect_noise((256, 256), 80).convert("RGB").save(path)
    large = grid_of(folder)
    assert large.max_side == SIDES[0]
    small = grid_of(folder, budget=large.num_bytes // 3)
    assert small.max_side < SIDES[0]
    assert len(small.cards) == 6
    assert small.num_bytes <= small.budget
    least = grid_of(folder, budget=large.num_bytes // 60)
    assert least.max_side == SIDES[-1]
    assert 0 < len(least.cards) < 6
    assert least.num_bytes <= least.budget
    assert f"Shown are {len(least.cards)} of 6 samples, thumbnails of at most 64 px" in least.size_note


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_choose_even_gives_what_there_is(count: int) -> None:
    table = pd.DataFrame({"operation": ["a"] * 10 + ["b"] * 2 + ["c"], "n": range(13)})
    chosen = choose_even(table, count, "operation")
    assert len(chosen) == min(count, 13)
    assert chosen["n"].is_unique
    if count == 7:
        assert chosen["operation"].value_counts().to_dict() == {"a": 4, "b": 2, "c": 1}
    assert len(choose_even(table, count, None)) == min(count, 13)
