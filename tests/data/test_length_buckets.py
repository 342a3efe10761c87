"""Batches of texts about as long: from the words of a reader through the loader to a config that is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_datamodule
from mgie_lit.config.compose import compose_config
from mgie_lit.config.ranges import range_faults
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.data.mixture import Mixture, MixturePart
from mgie_lit.data.order import BucketedOrder, ShuffledOrder
from mgie_lit.data.readers import KnowsLengths
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.evr import EVR
from mgie_lit.data.readers.gier import GIER
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.ma5k import MA5k
from mgie_lit.errors import ConfigError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.prompts import EditPrompt, load_tokenizer
from mgie_lit.testing.datasets import write_imagefolder, write_ipr2pr_columns
from mgie_lit.testing.random_data import RandomDataset, tiny_collator
from mgie_lit.testing.tiny_models import tiny_guide
from mgie_lit.types import EditBatch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_EXAMPLES, BATCH_SIZE, TOGETHER = 19, 2, 3


@pytest.fixture(scope="module")
def guide() -> MLLMGuide:
    return tiny_guide()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose expressive instructions have 1 to 19 words, in no order."""
    folder = tmp_path_factory.mktemp("words")
    write_imagefolder(folder, num_examples=NUM_EXAMPLES)
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["instruction"], row["expressive_instruction"] = "brighter", "light " * (number * 7 % NUM_EXAMPLES + 1)
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def make_data(guide: MLLMGuide, root: Path, rank: int = 0, world_size: int = 1, **changes: Any) -> EditDataModule:  # noqa: ANN401
    data = EditDataModule(
        lambda split, num_examples: ImageFolder(split, num_examples, root=root),
        tiny_collator(guide),
        **{
            "num_examples": {"train": None, "val": 7},
            "batch_size": BATCH_SIZE,
            "seed": 5,
            "length_buckets": TOGETHER,
        }
        | changes,
    )
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=None)  # type: ignore[assignment]
    return data


def epoch(data: EditDataModule, number: int = 1, position: int = 0) -> list[EditBatch]:
    data.load_state_dict({"epoch": number, "position": position})
    return list(data.train_dataloader())


def names(batches: list[EditBatch]) -> list[list[str]]:
    return [batch.sample_ids for batch in batches]


def padding(batches: list[EditBatch]) -> int:
    return sum(int((~batch.attention_mask).sum()) for batch in batches)


def test_an_epoch_has_the_same_examples_and_less_padding(guide: MLLMGuide, root: Path) -> None:
    plain, alike = (epoch(make_data(guide, root, length_buckets=count)) for count in (None, TOGETHER))
    assert sorted(name for batch in names(alike) for name in batch) == sorted(
        name for batch in names(plain) for name in batch
    )
    assert padding(alike) < 0.7 * padding(plain)
    assert names(list(make_data(guide, root).val_dataloader())) == names(
        list(make_data(guide, root, length_buckets=None).val_dataloader())
    )


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 1)])
def test_ranks_share_an_epoch_and_go_on_in_it(guide: MLLMGuide, root: Path, world_size: int, num_workers: int) -> None:
    shared = [
        names(epoch(make_data(guide, root, rank, world_size, num_workers=num_workers))) for rank in range(world_size)
    ]
    together = [batch for turn in zip(*shared, strict=True) for batch in turn]
    assert together == names(epoch(make_data(guide, root)))[: len(together)]
    assert len(together) == 9 // world_size * world_size
    for rank, full in enumerate(shared):
        assert names(epoch(make_data(guide, root, rank, world_size), 1, BATCH_SIZE * world_size)) == full[1:]


def test_lengths_are_those_of_the_words(root: Path, tmp_path: Path) -> None:
    pairs = ImageFolder("train", 9, root=root)
    assert isinstance(pairs, KnowsLengths)
    texts = [pairs.texts(index) for index in range(len(pairs))]
    assert pairs.text_lengths().tolist() == [[len(words), len(written or "")] for words, written in texts]
    write_ipr2pr_columns(tmp_path / "columns")
    columns = IPr2Pr("train", root=tmp_path / "columns", index_dir=tmp_path / "index")
    assert columns.text_lengths().tolist() == [[len(columns.row(n).instruction), 0] for n in range(len(columns))]
    part = MixturePart(lambda split, num_examples, option: pairs, 2.0)
    mixture = Mixture("train", parts={"a": part, "b": MixturePart(lambda split, num_examples, option: columns, 1.0)})
    found = [(mixture[n].instruction, mixture[n].expressive_instruction or "") for n in range(len(mixture))]
    assert mixture.text_lengths().tolist() == [[len(text) for text in texts] for texts in found]


def test_too_few_examples(guide: MLLMGuide, root: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data.batch_size: expected at most the 19 training examples that each of 1 process has"
    ):
        make_data(guide, root, batch_size=20).train_dataloader()


@pytest.mark.faults
def test_data_without_lengths(guide: MLLMGuide, root: Path) -> None:
    data = make_data(guide, root, num_examples={"train": 4})
    data.reader = RandomDataset
    with pytest.raises(ConfigError, match=r"data.length_buckets: expected data that know .* got RandomDataset; use"):
        data.train_dataloader()
    part = MixturePart(lambda split, num_examples, option: RandomDataset(split, 3))
    with pytest.raises(ConfigError, match=r"data.length_buckets: expected data that know .* got drawn \(RandomDataset"):
        Mixture("train", parts={"drawn": part}).text_lengths()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["preset=released"], r"data.length_buckets: expected null with faults.overlapping_ranks=true .* got 8; use"),
        (["data.streaming=true"], r"data.length_buckets: expected null with data.streaming=true, .* got 8; use null"),
    ],
)
def test_where_it_is_refused(overrides: list[str], message: str) -> None:
    config = compose_config("train", ["size=tiny", "data=ipr2pr", "data.root=x", "data.length_buckets=8", *overrides])
    with pytest.raises(ConfigError, match=message):
        build_datamodule(config, build_editor(config))


@pytest.mark.parametrize("reader", [EVR, GIER, MA5k])
def test_padding_of_real_annotations(
    reader: type[FileReader], real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints what `docs/datasets.md` says: rows with the 7B model's prompt and 256 image patches, eight buckets."""
    data = reader("train", 4096, root=real_data / reader.name, expressive="instruction")
    prompt = EditPrompt(
        recorded_tokenizer(real_data, tmp_path),
        num_image_patches=256,
        **compose_config("train", ["size=llava_7b"]).size.prompt,
    )
    rows = [prompt.training_row(words, written or "") for words, written in map(data.texts, range(len(data)))]
    tokens, lengths = np.array([len(row.input_ids) for row in rows]), data.text_lengths().sum(1)
    lines = [
        f"{reader.name}: {len(data)} rows of {tokens.mean():.0f} tokens, at most {tokens.max()}; characters and tokens "
        f"correlate {np.corrcoef(lengths, tokens)[0, 1]:.3f}"
    ]
    for batch_size in (16, 32, 64):
        by_chance, *by_length = (padding_share(tokens, batch_size, given) for given in (None, lengths, tokens))
        assert by_length[0] < 0.6 * by_chance
        lines.append(
            f"  batches of {batch_size}: padding {by_chance:.1%}, {by_length[0]:.1%} by characters, "
            f"{by_length[1]:.1%} by tokens"
        )
    with capsys.disabled():
        print("", *lines, sep="\n")


def recorded_tokenizer(real_data: Path, folder: Path) -> PreTrainedTokenizerBase:
    """A sentencepiece model with 32,000 pieces, as LLaMA's."""
    model = real_data.parent / "golden" / "tokenizer.model"
    if not model.is_file():
        pytest.skip(f"no tokenizer in {model.parent}")
    shutil.copy(model, folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return load_tokenizer(str(folder))


def padding_share(tokens: np.ndarray, batch_size: int, lengths: np.ndarray | None) -> float:
    """Padding by all positions of an epoch's batches."""
    order = ShuffledOrder(len(tokens), seed=0)
    alike = BucketedOrder(order, np.zeros(len(tokens), int), batch_size, lengths=lengths, length_buckets=8)
    batches = tokens[np.array(list(alike)).reshape(-1, batch_size)]
    return float(1 - batches.sum() / (batches.max(1).sum() * batch_size))


@pytest.mark.faults
def test_one_bucket_is_none() -> None:
    assert list(range_faults({"data.length_buckets": 1})) == [
        "data.length_buckets: expected a whole number >= 2, got 1"
    ]
