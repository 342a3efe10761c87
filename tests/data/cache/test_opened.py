"""A cache as a training opens it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from mgie_lit.data.cache.opened import Cache, EncodedCollator, open_cache
from mgie_lit.data.cache.recipe import Recipe, recipes_of
from mgie_lit.data.collate import EditCollator
from mgie_lit.editor import Editor
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.models.freezing import set_trainable
from mgie_lit.prepare.cache import Encoder, build_cache
from mgie_lit.testing.random_data import random_example, random_image, tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.types import EditExample

FROZEN, ALL = ["unet.*", "guide.edit_head.*"], ["unet.*", "guide.*"]


@dataclass
class Files:
    """A reader of images in files that knows them, and counts how often it opens some."""

    folder: Path
    count: int = 3
    opened: list[int] = field(default_factory=list)
    words: str = "an instruction"

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> str:
        return f"row-{index}"

    def image_files(self, index: int) -> tuple[Path, ...]:
        return self.folder / f"{index}-source.png", self.folder / f"{index}-target.png"

    def texts(self, index: int) -> tuple[str, str | None]:
        return f"{self.words} {index}", "it is brighter"

    def __getitem__(self, index: int) -> EditExample:
        from PIL import Image

        self.opened.append(index)
        source, target = (Image.open(path).convert("RGB") for path in self.image_files(index))
        return EditExample(self.sample_id(index), source, target, *self.texts(index))


@dataclass
class Rows:
    """A reader that knows of no files."""

    rows: list[EditExample]

    def __len__(self) -> int:
        return len(self.rows)

    def sample_id(self, index: int) -> str:
        return self.rows[index].sample_id

    def __getitem__(self, index: int) -> EditExample:
        return self.rows[index]


@pytest.fixture(scope="module")
def editor() -> Editor:
    return tiny_editor("kl")


@pytest.fixture
def collator(editor: Editor) -> EditCollator:
    set_trainable(editor, FROZEN)
    return tiny_collator(editor.guide)  # type: ignore[arg-type]


@pytest.fixture
def reader(tmp_path: Path) -> Files:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        for number, name in enumerate(("source", "target")):
            random_image(20, 24, seed=2 * index + number).save(folder / f"{index}-{name}.png")
    return Files(folder)


def build(folder: Path, reader: object, editor: Editor, collator: EditCollator) -> None:
    recipes = recipes_of(editor, collator, "32-true")
    wanted = {kind: recipe for kind, recipe in recipes.items() if isinstance(recipe, Recipe)}
    encoder = Encoder(editor, torch.device("cpu"), "32-true")
    build_cache(folder, {"train": reader}, collator, wanted, encoder, batch_size=2)  # type: ignore[dict-item]


@pytest.fixture
def folder(tmp_path: Path, reader: Files, editor: Editor, collator: EditCollator) -> Path:
    build(tmp_path / "cache", reader, editor, collator)
    reader.opened.clear()
    return tmp_path / "cache"


def opened(folder: Path, editor: Editor, collator: EditCollator, precision: str = "32-true") -> Cache:
    cache = open_cache(folder, editor, collator, precision)
    assert cache is not None
    return cache


def test_no_cache(editor: Editor, collator: EditCollator) -> None:
    assert open_cache(None, editor, collator, "32-true") is None


def test_a_batch_holds_what_the_parts_would_have_made(
    folder: Path, reader: Files, editor: Editor, collator: EditCollator
) -> None:
    encoded = opened(folder, editor, collator).encoded(reader)
    batch = EncodedCollator(collator)([encoded[index] for index in (2, 0)])
    assert reader.opened == [], "no image is opened"
    plain = collator([reader[index] for index in (2, 0)])
    assert batch.source is batch.target is batch.mllm_pixels is None
    assert plain.source is not None
    assert plain.target is not None
    with torch.no_grad():
        source = editor.autoencoder.encode(plain.source).latent_dist.mode()
        target = editor.autoencoder.encode(plain.target).latent_dist
        states = editor.guide.mllm.vision_states(plain.mllm_pixels)  # type: ignore[union-attr]
    made = {"source_latents": source, "target_mean": target.mean, "target_std": target.std, "vision_states": states}
    for name, expected in made.items():
        torch.testing.assert_close(getattr(batch, name), expected, rtol=1e-5, atol=1e-5)
    for name in ("input_ids", "labels", "attention_mask", "visual_token_start"):
        assert torch.equal(getattr(batch, name), getattr(plain, name)), name
    assert batch.sample_ids == plain.sample_ids == ["row-2", "row-0"]


def test_texts_are_the_readers_own_of_now(folder: Path, reader: Files, editor: Editor, collator: EditCollator) -> None:
    encoded = opened(folder, editor, collator).encoded(replace(reader, words="other words"))
    assert encoded[1].instruction == "other words 1"


def test_where_files_are_unknown_pixels_are_compared(tmp_path: Path, editor: Editor, collator: EditCollator) -> None:
    rows = Rows([random_example(0), random_example(1)])
    build(tmp_path / "other", rows, editor, collator)
    cache = opened(tmp_path / "other", editor, collator)
    assert cache.encoded(rows)[1].example is None
    rows.rows[1] = replace(rows.rows[1], target=rows.rows[0].target)
    with pytest.raises(
        DataError, match="sample-1: the target has other pixels than when it was encoded: the data have"
    ):
        cache.encoded(rows)[1]


def test_changed_data(folder: Path, reader: Files, editor: Editor, collator: EditCollator) -> None:
    encoded = opened(folder, editor, collator).encoded(reader)
    random_image(20, 24, seed=99).save(reader.image_files(1)[0])
    with pytest.raises(DataError, match=r"data\.cache: row-1: the source has other pixels .* run `mgie prepare cache`"):
        encoded[1]
    assert encoded[0].sample_id == "row-0"


def test_a_file_written_anew_with_the_same_pixels_is_fine(
    folder: Path, reader: Files, editor: Editor, collator: EditCollator
) -> None:
    encoded = opened(folder, editor, collator).encoded(reader)
    image = reader[1].source
    image.save(reader.image_files(1)[0], compress_level=0)
    reader.opened.clear()
    assert encoded[1].example is None
    assert reader.opened == [1]


def test_pixels_are_read_where_the_tower_trains(
    folder: Path, reader: Files, editor: Editor, collator: EditCollator, caplog: pytest.LogCaptureFixture
) -> None:
    set_trainable(editor, ALL)
    with caplog.at_level(logging.INFO):
        cache = opened(folder, editor, collator)
    assert "no vision are taken from" in caplog.text
    assert "the vision tower trains" in caplog.text
    encoded = cache.encoded(reader)
    batch = EncodedCollator(collator)([encoded[0], encoded[1]])
    assert batch.vision_states is None
    assert batch.source is batch.target is None
    assert batch.source_latents is not None
    assert torch.equal(batch.mllm_pixels, collator([reader[0], reader[1]]).mllm_pixels)  # type: ignore[arg-type]


def test_vision_alone(tmp_path: Path, reader: Files) -> None:
    editor = tiny_editor("patch")
    set_trainable(editor, FROZEN)
    collator = tiny_collator(editor.guide)  # type: ignore[arg-type]
    build(tmp_path / "cache", reader, editor, collator)
    encoded = opened(tmp_path / "cache", editor, collator).encoded(reader)
    batch, plain = EncodedCollator(collator)([encoded[0]]), collator([reader[0]])
    assert batch.mllm_pixels is batch.source_latents is None
    assert batch.vision_states is not None
    assert torch.equal(batch.source, plain.source)  # type: ignore[arg-type]
    assert torch.equal(batch.target, plain.target)  # type: ignore[arg-type]


@pytest.mark.slow
def test_loader_processes(folder: Path, reader: Files, editor: Editor, collator: EditCollator) -> None:
    encoded = opened(folder, editor, collator).encoded(reader)
    loader = DataLoader(encoded, 3, num_workers=2, collate_fn=EncodedCollator(collator))
    (batch,) = loader
    here = EncodedCollator(collator)([encoded[index] for index in range(3)])
    assert torch.equal(batch.target_mean, here.target_mean)  # type: ignore[arg-type]
    assert torch.equal(batch.vision_states, here.vision_states)  # type: ignore[arg-type]


@pytest.mark.faults
class TestFaults:
    def test_no_such_folder(self, tmp_path: Path, editor: Editor, collator: EditCollator) -> None:
        with pytest.raises(
            ConfigError, match=r"data\.cache: expected a folder made by `mgie prepare cache`, got .*nowhere"
        ):
            open_cache(tmp_path / "nowhere", editor, collator, "32-true")

    def test_examples_that_are_not_there(
        self, folder: Path, reader: Files, editor: Editor, collator: EditCollator
    ) -> None:
        with pytest.raises(DataError, match=r"expected all 5 examples in .*, 2 are not there \(row-3, row-4\); run"):
            opened(folder, editor, collator).encoded(replace(reader, count=5))

    def test_other_weights(self, folder: Path, editor: Editor, collator: EditCollator) -> None:
        weight = next(editor.autoencoder.parameters())
        before = weight.detach().clone()
        with torch.no_grad():
            weight += 1e-3
        with pytest.raises(
            ConfigError, match=r"the latents in .* were made differently; run .*\nweights: cached \w+, now"
        ):
            open_cache(folder, editor, collator, "32-true")
        with torch.no_grad():
            weight.copy_(before)

    def test_other_resolution(self, folder: Path, editor: Editor, collator: EditCollator) -> None:
        collator.transform = replace(collator.transform, resolution=24)
        expected = r"\ntransform: cached PairTransform\(resolution=16\), now PairTransform\(resolution=24\)$"
        with pytest.raises(ConfigError, match=expected):
            open_cache(folder, editor, collator, "32-true")

    def test_other_number_type(self, folder: Path, editor: Editor, collator: EditCollator) -> None:
        with pytest.raises(ConfigError, match=r"\ndtype: cached .* precision 32-true, now .* precision bf16-mixed"):
            open_cache(folder, editor, collator, "bf16-mixed")

    @pytest.mark.parametrize("part", ["latents-*/*.safetensors", "vision-*/*.safetensors", "samples/*.arrow"])
    def test_damage(self, folder: Path, editor: Editor, collator: EditCollator, part: str) -> None:
        path = next(folder.glob(part))
        content = bytearray(path.read_bytes())
        content[-3] ^= 16
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path.name}.*so it is damaged; remove it and run `mgie prepare cache`"):
            open_cache(folder, editor, collator, "32-true")

    def test_a_lost_shard(self, folder: Path, reader: Files, editor: Editor, collator: EditCollator) -> None:
        lost = sorted(folder.glob("vision-*/*.safetensors"))
        assert len(lost) == 1
        (lost[0].parent / "keep").write_text("")
        build_more = replace(reader, count=2)
        lost[0].unlink()
        build(folder, build_more, editor, collator)
        encoded = opened(folder, editor, collator).encoded(reader)
        with pytest.raises(DataError, match=r"row-2: expected vision in .*, found none; run `mgie prepare cache`"):
            encoded[2]

    def test_nothing_of_use(self, folder: Path) -> None:
        blind = tiny_editor("patch", has_vision=False)
        set_trainable(blind, ["unet.*"])
        collator = tiny_collator(blind.guide)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"holds nothing that this training can use; run .*, or use null"):
            open_cache(folder, blind, collator, "32-true")
