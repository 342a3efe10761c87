from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from PIL import Image

from mgie_lit.report.pictures import MAX_SIDE, NUM_EXTREMES, choose_even, data_uri, make_gallery
from mgie_lit.report.read import Evaluation, read_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def evaluation(folder: Path) -> Evaluation:
    return read_directories([folder])[1][0]


def decoded(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_samples_are_spread_over_operations(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    gallery = make_gallery(evaluation(make_evaluation(tmp_path / "a", 50)), 10)
    assert len(gallery.even) == 10
    operations = [card.notes.split(" · ")[0] for card in gallery.even]
    assert {operations.count(name) for name in operations} == {2}
    assert len(set(operations)) == 5


def test_cards_hold_images_words_and_scores(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    cards = {card.sample_id: card for card in make_gallery(evaluation(make_evaluation(tmp_path / "a", 5)), 5).even}
    card = cards["test-000001"]
    assert list(card.images) == ["source", "edited", "target"]
    assert decoded(card.images["edited"] or "").size == (32, 32)
    assert card.instruction == "please make it darker (1)"
    assert card.expressive_instruction == "the photo becomes darker"
    assert card.expressive_target == ""
    assert card.notes == "darker · L1 0.0301 (copy 0.1501) · SSIM 0.9000 (copy 0.7000)"
    assert cards["test-000003"].expressive_target == "the photo becomes negative"


def test_best_and_worst_by_l1(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    gallery = make_gallery(evaluation(make_evaluation(tmp_path / "a", 20)), 5)  # l1 grows with the index
    assert [card.sample_id for card in gallery.best] == [f"test-{index:06d}" for index in range(NUM_EXTREMES)]
    assert [card.sample_id for card in gallery.worst] == [f"test-{19 - index:06d}" for index in range(NUM_EXTREMES)]
    assert gallery.ranked_by == "L1"


def test_best_and_worst_never_overlap(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    gallery = make_gallery(evaluation(make_evaluation(tmp_path / "a", 3)), 5)
    assert [len(gallery.best), len(gallery.worst)] == [1, 1]
    assert gallery.best != gallery.worst


def test_the_direction_of_another_metric_is_followed(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    entry = evaluation(make_evaluation(tmp_path / "a", 6, pictures=False))
    entry.summary["metrics"] = {"ssim": entry.summary["metrics"]["ssim"]}
    entry.table["ssim"] = [0.1, 0.9, 0.5, None, 0.2, 0.3]
    gallery = make_gallery(entry, 2)
    assert gallery.best[0].sample_id == "test-000001"
    assert gallery.worst[0].sample_id == "test-000000"


def test_folders_are_found_without_columns(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 5)
    table = pd.read_parquet(folder / "per_sample.parquet")
    table.drop(columns=["source_image", "target_image", "image_path"]).to_parquet(folder / "per_sample.parquet")
    card = make_gallery(evaluation(folder), 1).even[0]
    assert all(card.images[role] for role in ("source", "edited", "target"))


def test_missing_pictures_are_left_out(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 5, pictures=False)
    gallery = make_gallery(evaluation(folder), 5)
    assert all(card.images == {} for card in gallery.even)
    assert gallery.grid is None
    Image.new("RGB", (30, 60)).save(folder / "grid.png")
    assert make_gallery(evaluation(folder), 5).grid


def test_a_single_missing_or_broken_image_keeps_its_place(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 5)
    (folder / "images" / "test-000001.png").unlink()
    (folder / "images" / "test-000002.png").write_bytes(b"no image")
    cards = {card.sample_id: card for card in make_gallery(evaluation(folder), 5).even}
    assert cards["test-000001"].images["edited"] is None
    assert cards["test-000002"].images["edited"] is None
    assert cards["test-000002"].images["source"]


def test_images_outside_the_directory_are_not_read(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    folder = make_evaluation(tmp_path / "a", 5)
    table = pd.read_parquet(folder / "per_sample.parquet")
    table["source_image"] = "../private.png"
    (folder / "sources" / "test-000000.png").unlink()
    table.to_parquet(folder / "per_sample.parquet")
    cards = {card.sample_id: card for card in make_gallery(evaluation(folder), 5).even}
    assert cards["test-000000"].images.get("source") is None


def test_only_the_first_seed_is_shown(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    entry = evaluation(make_evaluation(tmp_path / "a", 4, pictures=False))
    doubled = pd.concat([entry.table, entry.table.assign(seed=1)])
    again = Evaluation(entry.name, entry.path, entry.summary, doubled, entry.origin)
    assert len(make_gallery(again, 20).even) == 4


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_choose_even_gives_what_there_is(count: int) -> None:
    table = pd.DataFrame({"operation": ["a"] * 10 + ["b"] * 2 + ["c"], "n": range(13)})
    chosen = choose_even(table, count, "operation")
    assert len(chosen) == min(count, 13)
    assert chosen["n"].is_unique
    if count == 7:
        assert chosen["operation"].value_counts().to_dict() == {"a": 4, "b": 2, "c": 1}
    assert len(choose_even(table, count, None)) == min(count, 13)


def test_large_images_are_made_small(tmp_path: Path) -> None:
    Image.new("RGBA", (1000, 500), "#ff000080").save(tmp_path / "large.png")
    assert decoded(data_uri(tmp_path / "large.png") or "").size == (MAX_SIDE, MAX_SIDE // 2)
    assert data_uri(tmp_path / "absent.png") is None
