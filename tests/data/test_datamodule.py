from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.errors import ConfigError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.testing.random_data import RandomDataset, tiny_collator
from mgie_lit.testing.tiny_models import tiny_guide


class Reader:
    """Makes random data sets and remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **kwargs: Any) -> RandomDataset:  # noqa: ANN401
        self.calls.append(kwargs)
        return RandomDataset(kwargs["split"], kwargs["num_examples"] or 3)


@pytest.fixture(scope="module")
def guide() -> MLLMGuide:
    return tiny_guide()


def datamodule(guide: MLLMGuide, reader: Callable[..., RandomDataset] | None = None, **kwargs: Any) -> EditDataModule:  # noqa: ANN401
    sizes = {"train": 11, "val": 5, "test": None}
    return EditDataModule(
        reader or Reader(), tiny_collator(guide), **{"num_examples": sizes, "batch_size": 2, "seed": 4} | kwargs
    )


def ids(loader: Any) -> list[list[str]]:  # noqa: ANN401
    return [batch.sample_ids for batch in loader]


def test_each_split_is_read_once_with_its_size(guide: MLLMGuide) -> None:
    reader = Reader()
    data = datamodule(guide, reader)
    assert data.dataset("val") is data.dataset("val")
    assert len(data.dataset("test")) == 3
    assert reader.calls == [{"split": "val", "num_examples": 5}, {"split": "test", "num_examples": None}]


def test_training_batches_are_shuffled_equal_and_nothing_comes_twice(guide: MLLMGuide) -> None:
    loader = datamodule(guide).train_dataloader()
    batches = ids(loader)
    flat = [name for batch in batches for name in batch]
    assert len(loader) == len(batches) == 5
    assert {len(batch) for batch in batches} == {2}
    assert len(set(flat)) == 10
    assert set(flat) < {f"train-{index}" for index in range(11)}
    assert flat != sorted(flat)
    assert ids(datamodule(guide).train_dataloader()) == batches
    assert ids(datamodule(guide, seed=5).train_dataloader()) != batches


def test_validation_batches_come_in_order_with_the_incomplete_last_one(guide: MLLMGuide) -> None:
    assert ids(datamodule(guide).val_dataloader()) == [["val-0", "val-1"], ["val-2", "val-3"], ["val-4"]]


def test_worker_processes_change_nothing(guide: MLLMGuide) -> None:
    data = datamodule(guide, num_workers=1)
    assert ids(data.train_dataloader()) == ids(datamodule(guide).train_dataloader())
    assert [watched.reader for watched in data.watched] == [data.dataset("train")], "a death would be explained"


def test_loaded_state_goes_on_in_the_middle_of_its_epoch(guide: MLLMGuide) -> None:
    full = datamodule(guide).train_dataloader()
    full.sampler.set_epoch(2)
    batches = ids(full)
    data = datamodule(guide)
    data.load_state_dict({"epoch": 2, "position": 6})
    loader = data.train_dataloader()
    assert len(loader) == 5, "the trainer counts the batches of the whole epoch"
    assert ids(loader) == batches[3:]


def test_too_few_examples_for_a_batch(guide: MLLMGuide) -> None:
    message = (
        "data.batch_size: expected at most the 11 training examples that each of 1 process has, got 12; "
        "use data.batch_size=11 or less, or raise data.num_examples.train"
    )
    with pytest.raises(ConfigError, match=message):
        datamodule(guide, batch_size=12).train_dataloader()


@pytest.mark.parametrize("limit", [None, 40])
def test_what_is_possible_where_all_examples_are_used(guide: MLLMGuide, limit: int | None) -> None:
    data = datamodule(guide, lambda split, num_examples: RandomDataset(split, 3), batch_size=8)
    data.num_examples["train"] = limit
    with pytest.raises(ConfigError, match=r"got 8; use data.batch_size=3 or less, or add more pairs$"):
        data.train_dataloader()
    with pytest.raises(ConfigError, match=r"the 0 .* each of 4 processes has, got 8; use fewer processes, or add more"):
        data.check(world_size=4)


def test_data_are_checked_without_an_example(guide: MLLMGuide) -> None:
    reader = Reader()
    data = datamodule(guide, reader, batch_size=5)
    data.check(world_size=2)
    assert [call["split"] for call in reader.calls] == ["train", "val"]
    with pytest.raises(ConfigError, match="expected at most the 3 training examples that each of 3 processes has"):
        data.check(world_size=3)


def test_batches_move_to_the_device(guide: MLLMGuide) -> None:
    data = datamodule(guide)
    (batch, *_) = data.val_dataloader()
    moved = data.transfer_batch_to_device(batch, "meta", 0)
    assert moved.labels.device.type == "meta"
