from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from mgie_lit.report.pictures import NUM_EXTREMES, make_gallery
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


def test_cards_hold_images_words_and_scores(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    gallery = make_gallery(evaluation(make_evaluation(tmp_path / "a", 4)))
    cards = {card.sample_id: card for card in (*gallery.best, *gallery.worst)}
    card = cards["test-000001"]
    assert list(card.images) == ["source", "edited", "target", "difference"]
    assert gallery.num_bytes == sum(len(uri or "") for card in cards.values() for uri in card.images.values())
    assert decoded(card.images["edited"] or "").size == (32, 32)
    assert card.instruction == "please make it darker (1)"
    assert card.expressive_instruction == "the photo becomes darker"
    assert card.expressive_target == ""
    assert card.notes == "darker · L1 0.0301 (copy 0.1501) · SSIM 0.9000 (copy 0.7000)"
    assert cards["test-000003"].expressive_target == "the photo becomes negative"


def test_best_and_worst_by_l1(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    gallery = make_gallery(evaluation(make_evaluation(tmp_path / "a", 20)))  # l1 grows with the index
    assert [card.sample_id for card in gallery.best] == [f"test-{index:06d}" for index in range(NUM_EXTREMES)]
    assert [card.sample_id for card in gallery.worst] == [f"test-{19 - index:06d}" for index in range(NUM_EXTREMES)]
    assert gallery.ranked_by == "L1"


def test_best_and_worst_never_overlap(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    gallery = make_gallery(evaluation(make_evaluation(tmp_path / "a", 3)))
    assert [len(gallery.best), len(gallery.worst)] == [1, 1]
    assert gallery.best != gallery.worst


def test_the_direction_of_another_metric_is_followed(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    entry = evaluation(make_evaluation(tmp_path / "a", 6, pictures=False))
    entry.summary["metrics"] = {"ssim": entry.summary["metrics"]["ssim"]}
    entry.table["ssim"] = [0.1, 0.9, 0.5, None, 0.2, 0.3]
    gallery = make_gallery(entry)
    assert gallery.best[0].sample_id == "test-000001"
    assert gallery.worst[0].sample_id == "test-000000"


def test_folders_are_found_without_columns(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 5)
    table = pd.read_parquet(folder / "per_sample.parquet")
    table.drop(columns=["source_image", "target_image", "image_path"]).to_parquet(folder / "per_sample.parquet")
    card = make_gallery(evaluation(folder)).best[0]
    assert all(card.images[role] for role in ("source", "edited", "target"))


def test_missing_pictures_are_left_out(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 5, pictures=False)
    gallery = make_gallery(evaluation(folder))
    assert gallery.best
    assert all(card.images == {} for card in gallery.best)
    assert gallery.grid is None
    Image.new("RGB", (30, 60)).save(folder / "grid.png")
    assert make_gallery(evaluation(folder)).grid


def test_a_single_missing_or_broken_image_keeps_its_place(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 4)
    (folder / "images" / "test-000000.png").unlink()
    (folder / "images" / "test-000001.png").write_bytes(b"no image")
    for card in make_gallery(evaluation(folder)).best:
        assert card.images["edited"] is None
        assert card.images["difference"] is None
        assert card.images["source"]


def test_images_outside_the_directory_are_not_read(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    folder = make_evaluation(tmp_path / "a", 4)
    table = pd.read_parquet(folder / "per_sample.parquet")
    table["source_image"] = "../private.png"
    (folder / "sources" / "test-000000.png").unlink()
    table.to_parquet(folder / "per_sample.parquet")
    best = make_gallery(evaluation(folder)).best
    assert best[0].images["source"] is None
    assert best[1].images["source"]


def test_only_the_first_seed_is_shown(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    entry = evaluation(make_evaluation(tmp_path / "a", 4, pictures=False))
    doubled = pd.concat([entry.table, entry.table.assign(seed=1)])
    again = Evaluation(entry.name, entry.path, entry.summary, doubled, entry.origin)
    gallery = make_gallery(again)
    assert len({card.sample_id for card in (*gallery.best, *gallery.worst)}) == 4
