"""Parquet files read at their places: the same examples as out of Arrow files, each row group once a pass."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.data.order import BlockShuffledOrder
from mgie_lit.data.readers import SPLITS, parquet
from mgie_lit.data.readers.column_reader import ColumnReader
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.magicbrush import MagicBrush
from mgie_lit.data.readers.parquet import ParquetRows, RowGroup, list_groups
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.testing.datasets import write_ipr2pr_columns, write_magicbrush_columns
from mgie_lit.testing.random_data import tiny_collator
from mgie_lit.testing.tiny_models import tiny_guide

PROMPTS, BATCH_SIZE, GROUP_ROWS, HELD = 24, 2, 3, 2
HUB = "hf:owner/name"


@pytest.fixture(scope="module")
def guide() -> MLLMGuide:
    return tiny_guide()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both data sets with row groups of three rows."""
    root = tmp_path_factory.mktemp("columns")
    write_ipr2pr_columns(root / "ipr2pr", num_prompts=PROMPTS)
    write_magicbrush_columns(root / "magicbrush")
    for file in root.glob("*/data/*.parquet"):
        pq.write_table(pq.read_table(file), file, row_group_size=GROUP_ROWS)
    return {folder.name: folder for folder in root.iterdir()}


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two row groups at a time, whatever their bytes."""

    def shrunk(self: ParquetRows, groups: Any, names: Any, held: int) -> None:  # noqa: ANN401
        original(self, groups, names, min(held, HELD))

    original = ParquetRows.__init__
    monkeypatch.setattr(ParquetRows, "__init__", shrunk)


@pytest.fixture
def hub(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The files of IPr2Pr as URLs that `datasets` finds behind a name on the hub."""
    memory = fsspec.filesystem("memory")
    urls = []
    for file in sorted((folders["ipr2pr"] / "data").iterdir()):
        urls.append(f"memory://hub/{file.name}")
        memory.pipe(urls[-1], file.read_bytes())
    files = {"train": urls}
    _stand_in(monkeypatch, files)
    return files


def _stand_in(monkeypatch: pytest.MonkeyPatch, files: dict[str, list[str]]) -> None:
    def builder(name: str) -> SimpleNamespace:
        assert name == "owner/name"
        return SimpleNamespace(config=SimpleNamespace(data_files=files))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)


def contents(dataset: ColumnReader) -> list[tuple[Any, ...]]:
    """Everything of every example."""
    found = []
    for index in range(len(dataset)):
        example = dataset[index]
        images = [image and (image.size, image.tobytes()) for image in (example.source, example.target, example.mask)]
        words = (example.sample_id, example.instruction, example.caption, example.turn, example.session_id)
        found.append((*words, dict(example.attributes), *images))
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_examples_of_ipr2pr_are_those_of_arrow_files(folders: dict[str, Path], tmp_path: Path, split: str) -> None:
    streamed = IPr2Pr(split, root=folders["ipr2pr"], streaming=True, index_dir=tmp_path)
    assert not list(tmp_path.glob("**/*.arrow")), "nothing is converted"
    assert contents(streamed) == contents(IPr2Pr(split, root=folders["ipr2pr"], index_dir=tmp_path))
    assert streamed.source_sizes().tolist() == [list(streamed[index].source.size) for index in range(len(streamed))]


@pytest.mark.parametrize("view", ["single_turn", "multi_turn"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_examples_of_magicbrush_are_those_of_arrow_files(
    folders: dict[str, Path], tmp_path: Path, split: str, view: str
) -> None:
    kwargs: dict[str, Any] = {"root": folders["magicbrush"], "view": view, "index_dir": tmp_path}
    assert contents(MagicBrush(split, streaming=True, **kwargs)) == contents(MagicBrush(split, **kwargs))


def make_data(
    guide: MLLMGuide,
    root: Path | str,
    index_dir: Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    streaming: bool = True,
) -> EditDataModule:
    data = EditDataModule(
        lambda split, num_examples: IPr2Pr(
            split, root=root, streaming=streaming, index_dir=index_dir, expressive="instruction"
        ),
        tiny_collator(guide),
        num_examples=dict.fromkeys(SPLITS),
        batch_size=BATCH_SIZE,
        num_workers=num_workers,
        seed=5,
    )
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=None)  # type: ignore[assignment]
    return data


def epoch_of(data: EditDataModule, position: int = 0) -> list[list[str]]:
    """Ids of the rest of an epoch."""
    data.load_state_dict({"epoch": 1, "position": position})
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, BlockShuffledOrder)
    return [batch.sample_ids for batch in loader]


def flat(batches: list[list[str]]) -> list[str]:
    return [name for batch in batches for name in batch]


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (3, 0), (1, 2), (2, 2)])
def test_ranks_and_workers_lose_and_repeat_nothing(
    guide: MLLMGuide, folders: dict[str, Path], tmp_path: Path, world_size: int, num_workers: int
) -> None:
    """The union is the epoch, up to what does not fill a batch on every rank; a resumed epoch is its rest."""
    make = partial(make_data, guide, folders["ipr2pr"], tmp_path)
    kwargs = [{"rank": rank, "world_size": world_size, "num_workers": num_workers} for rank in range(world_size)]
    ranks = [epoch_of(make(**values)) for values in kwargs]
    dealt = [name for turn in zip(*map(flat, ranks), strict=True) for name in turn]
    whole = flat(epoch_of(make()))
    assert len(whole) == len(set(whole)) == (PROMPTS * 90 // 100) // BATCH_SIZE * BATCH_SIZE
    assert dealt == whole[: len(dealt)]
    assert len(whole) - len(dealt) < BATCH_SIZE * world_size
    done = 2
    for values, full in zip(kwargs, ranks, strict=True):
        assert epoch_of(make(**values), done * BATCH_SIZE * world_size) == full[done:]


@pytest.mark.usefixtures("small_memory")
def test_a_pass_reads_every_row_group_once_and_keeps_few(
    guide: MLLMGuide, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(guide, folders["ipr2pr"], tmp_path)
    dataset = data.dataset("train")
    assert isinstance(dataset, IPr2Pr)
    assert dataset._columns is not None
    rows = dataset._columns.source
    assert isinstance(rows, ParquetRows)
    reads: Counter[tuple[int, str]] = Counter()
    original = ParquetRows._columns

    def counted(self: ParquetRows, number: int, names: list[str]) -> Any:  # noqa: ANN401
        reads.update((number, name) for name in names)
        assert len(self._read) <= HELD
        return original(self, number, names)

    monkeypatch.setattr(ParquetRows, "_columns", counted)
    order = flat(epoch_of(data))
    groups = rows.group_of(np.array([int(name.removeprefix("hf-")) for name in order]))
    assert set(reads) == {(group, name) for group in groups for name in ("original_image", "edited_image")}
    assert set(reads.values()) == {1}
    assert set(groups[: 2 * GROUP_ROWS]) != {0, 1}, "row groups come in a drawn order"
    assert len(set(groups[:GROUP_ROWS])) > 1, "and are mixed with each other"


def test_batches_are_those_of_arrow_files_to_the_last_bit(
    guide: MLLMGuide, folders: dict[str, Path], tmp_path: Path
) -> None:
    both = [make_data(guide, folders["ipr2pr"], tmp_path, streaming=streaming) for streaming in (True, False)]
    order = both[0].train_dataloader().sampler
    assert isinstance(order, BlockShuffledOrder)
    indices = list(order)[: 4 * BATCH_SIZE]
    for first in range(0, len(indices), BATCH_SIZE):
        some = indices[first : first + BATCH_SIZE]
        streamed, mapped = (data.collator([data.dataset("train")[index] for index in some]) for data in both)
        assert streamed.sample_ids == mapped.sample_ids
        for name in ("source", "target", "labels", "pixel_values"):
            if getattr(streamed, name, None) is not None:
                assert getattr(streamed, name).equal(getattr(mapped, name))


def test_files_behind_urls(
    guide: MLLMGuide, folders: dict[str, Path], hub: dict[str, list[str]], tmp_path: Path
) -> None:
    remote = IPr2Pr("train", root=HUB, streaming=True, index_dir=tmp_path)
    assert contents(remote) == contents(IPr2Pr("train", root=folders["ipr2pr"], streaming=True, index_dir=tmp_path))
    (listed,) = tmp_path.glob("name-*/parquet-*.json")
    assert hub["train"][0] in listed.read_text(encoding="utf-8"), "the list is kept"


class _Ranges(BaseHTTPRequestHandler):
    """Parts of files, as the hub's servers send them."""

    folder: Path
    sent: int

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        data = (self.folder / self.path.rpartition("/")[2]).read_bytes()
        size = len(data)
        asked = self.headers.get("Range")
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            type(self).sent += len(data)
            self.wfile.write(data)

    def log_message(self, *args: Any) -> None:  # noqa: ANN401
        """Say nothing."""


@pytest.fixture
def server(folders: dict[str, Path], tmp_path: Path) -> Iterator[str]:
    """Sends IPr2Pr, with a large column that nobody needs."""
    _Ranges.folder, _Ranges.sent = tmp_path / "sent", 0
    _Ranges.folder.mkdir()
    for file in (folders["ipr2pr"] / "data").iterdir():
        table = pq.read_table(file)
        padding = pa.array([np.random.default_rng(row).bytes(2**16) for row in range(len(table))])
        padded = table.append_column("padding", padding)
        pq.write_table(padded, _Ranges.folder / file.name, row_group_size=GROUP_ROWS)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Ranges)
    Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def test_a_server_sends_what_is_needed_also_to_forked_workers(
    guide: MLLMGuide, folders: dict[str, Path], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(_Ranges.folder.iterdir())
    _stand_in(monkeypatch, {"train": [f"{server}/{file.name}" for file in files]})
    data = make_data(guide, HUB, tmp_path, num_workers=2)
    data.dataset("train")[0]  # the process that forks has used its own connection
    assert epoch_of(data) == epoch_of(make_data(guide, folders["ipr2pr"], tmp_path))
    assert _Ranges.sent < sum(file.stat().st_size for file in files) / 2, "footers, words and pictures"


def test_footers_are_read_once(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(file) for file in sorted((folders["ipr2pr"] / "data").iterdir())]
    groups, names = list_groups(files, tmp_path, "data.root")
    assert sum(group.rows for group in groups) == PROMPTS
    assert {group.rows for group in groups} == {GROUP_ROWS}
    monkeypatch.setattr(parquet, "_footer", None)
    assert list_groups(files, tmp_path, "data.root") == (groups, names)


def test_rows_travel_to_other_processes_without_what_was_read(folders: dict[str, Path], tmp_path: Path) -> None:
    dataset = IPr2Pr("train", root=folders["ipr2pr"], streaming=True, index_dir=tmp_path)
    first = dataset[0].source.tobytes()
    assert dataset._columns is not None
    size = len(pickle.dumps(dataset._columns.source))
    again = pickle.loads(pickle.dumps(dataset))
    assert again[0].source.tobytes() == first
    assert len(pickle.dumps(again._columns.source)) == size


@pytest.mark.faults
def test_streaming_needs_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"data\.streaming: expected parquet files in .*, got none; other layouts"):
        IPr2Pr("train", root=tmp_path, streaming=True)
    _stand_in(monkeypatch, {"train": ["hf://datasets/owner/name@main/words.json"]})
    with pytest.raises(ConfigError, match=r"data\.streaming: expected parquet files in hf:owner/name, got hf://.*json"):
        MagicBrush("train", root=HUB, streaming=True, index_dir=tmp_path)


@pytest.mark.faults
def test_memory_has_to_hold_a_row_group(folders: dict[str, Path], tmp_path: Path) -> None:
    message = r"data\.streaming_mib: expected at least 1 MiB, the largest row group of .*, got 0; raise it"
    with pytest.raises(ConfigError, match=message):
        IPr2Pr("train", root=folders["ipr2pr"], streaming=True, streaming_mib=0, index_dir=tmp_path)


@pytest.mark.faults
def test_the_hub_can_not_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = r"hf:owner/name: expected a data set on the hub, got: \w+: .*; check its name, the network, and that HF_"
    with pytest.raises(DataError, match=message):
        IPr2Pr("train", root=HUB, streaming=True, index_dir=tmp_path)


@pytest.mark.faults
def test_files_that_are_cut_changed_or_of_another_set(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in (folders["ipr2pr"] / "data").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first, second = sorted(tmp_path.iterdir())
    dataset = IPr2Pr("train", root=tmp_path, streaming=True, index_dir=tmp_path / "index")
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    cut = rf"{first.name}: expected a whole parquet file, got: \w+: .*; download it again"
    with pytest.raises(DataError, match=rf"hf-0000011 \(row 11\): .*{cut}"):
        dataset[11]  # the last of this file
    with pytest.raises(DataError, match=cut):
        IPr2Pr("train", root=tmp_path, streaming=True, index_dir=tmp_path / "index")
    pq.write_table(pq.read_table(second).drop_columns("edited_prompt"), first)
    with pytest.raises(DataError, match=rf"{second.name}: expected the columns of .*, got .*edited_prompt; give data"):
        IPr2Pr("train", root=tmp_path, streaming=True, index_dir=tmp_path / "index")
    rows = ParquetRows([RowGroup(str(second), 0, GROUP_ROWS + 1, 1)], ["edit_prompt"], 1)
    with pytest.raises(DataError, match=r"expected 4 rows in row group 0, got 3; it was changed while it is read"):
        rows.value(0, "edit_prompt")
