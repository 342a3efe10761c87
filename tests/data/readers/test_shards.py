from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.data.order import BlockShuffledOrder, ShuffledOrder
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.shards import MANIFEST, Shards
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.testing.datasets import write_imagefolder
from mgie_lit.testing.random_data import tiny_collator
from mgie_lit.testing.tiny_models import tiny_guide

NUM_EXAMPLES, BATCH_SIZE = 20, 2


@pytest.fixture(scope="module")
def guide() -> MLLMGuide:
    return tiny_guide()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    write_imagefolder(root / "pairs", num_examples=NUM_EXAMPLES)
    write_shards(root / "out", {"train": ImageFolder("train", root=root / "pairs")}, {}, max_bytes=20480)
    assert len(list((root / "out").glob("*.tar"))) > 3
    return root / "out"


def make_data(guide: MLLMGuide, folder: Path, rank: int, world_size: int, num_workers: int) -> EditDataModule:
    data = EditDataModule(
        lambda split, num_examples: Shards(split, num_examples, root=folder, block_size=3, window=2),
        tiny_collator(guide),
        num_examples={"train": None},
        batch_size=BATCH_SIZE,
        num_workers=num_workers,
        seed=5,
    )
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=None)  # type: ignore[assignment]
    return data


def batches(
    guide: MLLMGuide,
    folder: Path,
    rank: int,
    world_size: int,
    num_workers: int,
    state: dict[str, Any] | None = None,
    epoch: int = 1,
) -> list[list[str]]:
    """Ids of the rest of an epoch."""
    data = make_data(guide, folder, rank, world_size, num_workers)
    data.load_state_dict(state or {"epoch": epoch, "position": 0})
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, BlockShuffledOrder)
    return [batch.sample_ids for batch in loader]


def flat(batches: list[list[str]]) -> list[str]:
    return [name for batch in batches for name in batch]


def dealt(ranks: list[list[list[str]]]) -> list[str]:
    """The order that ranks go through together."""
    return [name for turn in zip(*map(flat, ranks), strict=True) for name in turn]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_and_workers_lose_and_repeat_nothing(
    guide: MLLMGuide, folder: Path, world_size: int, num_workers: int
) -> None:
    """The union is the epoch, up to what does not fill a batch on every rank; a resumed epoch is its rest."""
    ranks = [batches(guide, folder, rank, world_size, num_workers) for rank in range(world_size)]
    seen = [name for rank in ranks for batch in rank for name in batch]
    steps = NUM_EXAMPLES // world_size // BATCH_SIZE
    assert len(seen) == len(set(seen)) == steps * BATCH_SIZE * world_size
    whole = flat(batches(guide, folder, 0, 1, 0))
    assert dealt(ranks) == whole[: len(seen)]
    done = 2
    for rank, full in enumerate(ranks):
        state = {"epoch": 1, "position": done * BATCH_SIZE * world_size}
        assert batches(guide, folder, rank, world_size, num_workers, state) == full[done:]
    other = [batches(guide, folder, rank, world_size, num_workers, epoch=2) for rank in range(world_size)]
    assert len(dealt(other)) == len(set(dealt(other))) == len(seen)
    assert dealt(other) != dealt(ranks)


@pytest.mark.parametrize(("position", "now"), [(8, 2), (12, 3), (8, 1), (6, 2), (10, 3), (2, 3)])
def test_other_ranks_go_on_in_the_same_order(guide: MLLMGuide, folder: Path, position: int, now: int) -> None:
    """Also from a place inside of one of their batches."""
    rest = [batches(guide, folder, rank, now, 0, {"epoch": 1, "position": position}) for rank in range(now)]
    assert len({len(rank) for rank in rest}) == 1, "no rank waits for another"
    together = BATCH_SIZE * now
    end = NUM_EXAMPLES // together * together
    end -= (end - position) % together
    assert dealt(rest) == flat(batches(guide, folder, 0, 1, 0))[position:end]


def test_order_can_be_any(folder: Path, guide: MLLMGuide) -> None:
    data = EditDataModule(
        lambda split, num_examples: Shards(split, num_examples, root=folder, order="shuffled"),
        tiny_collator(guide),
        num_examples={"train": None},
        batch_size=2,
    )
    assert type(data.train_dataloader().sampler) is ShuffledOrder


@pytest.mark.faults
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": "random"}, r"data\.order: expected blocks or shuffled, got 'random'; use one of these"),
        ({"block_size": 0}, r"data\.block_size: expected at least 1, got 0; raise it"),
        ({"window": 0}, r"data\.window: expected at least 1, got 0; raise it"),
    ],
)
def test_values_out_of_range(folder: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shards("train", root=folder, **values)


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    for path in (path for path in folder.glob("*.*") if path.is_file()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.faults
def test_a_shard_that_is_missing_or_cut(damaged: Path) -> None:
    shard = damaged / "train-000001.tar"
    size = shard.stat().st_size
    shard.write_bytes(b"x" * 10)
    with pytest.raises(DataError, match=rf"train-000001.tar: expected {size} bytes, got 10 bytes; run `mgie prepare"):
        Shards("train", root=damaged)
    shard.unlink()
    with pytest.raises(DataError, match=rf"train-000001.tar: expected {size} bytes, got nothing; run `mgie prepare"):
        Shards("train", root=damaged)


@pytest.mark.faults
def test_a_shard_that_goes_while_it_is_read(damaged: Path) -> None:
    dataset, other = Shards("train", root=damaged), Shards("train", root=damaged)
    (damaged / "train-000000.tar").write_bytes(b"x" * 600)
    with pytest.raises(DataError, match=r"train-000000.tar, byte \d+: expected \d+ bytes, got \d+; run"):
        dataset[0]
    (damaged / "train-000000.tar").unlink()
    with pytest.raises(DataError, match=r"expected an image, can not read it \(No such file or directory\); run"):
        other[0]


@pytest.mark.faults
def test_a_damaged_manifest(damaged: Path) -> None:
    (damaged / MANIFEST).write_text("[]")
    with pytest.raises(DataError, match=r"shards.json: expected an object with `shards`, got \[\]; run"):
        Shards("train", root=damaged)


@pytest.mark.faults
def test_a_split_that_was_not_written(folder: Path) -> None:
    with pytest.raises(DataError, match="expected examples of shards for the split val, got none"):
        Shards("val", root=folder)
