from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mgie_lit.checkpoints.lazy import OpenFiles
from mgie_lit.checkpoints.weight_files import has_weights, open_weights
from mgie_lit.errors import CheckpointError
from mgie_lit.testing.published_weights import write_shards

TENSORS = {
    "d": torch.arange(6.0).reshape(2, 3),
    "a": torch.arange(5),
    "c": torch.ones(4, dtype=torch.bfloat16),
    "b": torch.tensor(7.0, dtype=torch.float16),
    "e": torch.ones(0, 3),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
@pytest.mark.parametrize("stem", ["model", "pytorch_model", "diffusion_pytorch_model"])
@pytest.mark.parametrize(("num_shards", "has_index"), [(1, False), (3, True), (3, False)])
def test_all_layouts_give_the_same(suffix: str, stem: str, num_shards: int, has_index: bool, tmp_path: Path) -> None:
    write_shards(tmp_path, TENSORS, stem=stem, suffix=suffix, num_shards=num_shards, has_index=has_index)
    lazy = open_weights(tmp_path)
    assert {name: (one.shape, one.dtype) for name, one in lazy.items()} == {
        name: (tuple(value.shape), value.dtype) for name, value in TENSORS.items()
    }
    assert all(torch.equal(lazy[name].load(), TENSORS[name]) for name in TENSORS)
    if suffix != ".safetensors":
        assert list(lazy) == list(TENSORS)
    assert [one.file for one in lazy.values()] == sorted(one.file for one in lazy.values())


def test_a_single_file_of_any_name(tmp_path: Path) -> None:
    (file,) = write_shards(tmp_path, TENSORS, stem="unet", suffix=".pt")
    assert open_weights(file)["a"].name == "a"
    with pytest.raises(CheckpointError, match=r"expected weights named model.*found unet\.pt"):
        open_weights(tmp_path)
    assert not has_weights(tmp_path)


def test_safetensors_and_whole_precision_go_first(tmp_path: Path) -> None:
    for value, (stem, suffix) in enumerate(
        [("model", ".safetensors"), ("model.fp16", ".safetensors"), ("pytorch_model", ".bin")]
    ):
        write_shards(tmp_path, {"a": torch.tensor(value)}, stem=stem, suffix=suffix)
    assert open_weights(tmp_path)["a"].load() == 0
    (tmp_path / "model.safetensors").unlink()
    assert open_weights(tmp_path)["a"].load() == 2
    (tmp_path / "pytorch_model.bin").unlink()
    assert open_weights(tmp_path)["a"].load() == 1


def test_one_file_is_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mgie_lit.checkpoints import lazy as module

    opened: list[str] = []
    read = module.read_torch_file
    monkeypatch.setattr(module, "read_torch_file", lambda path: opened.append(path.name) or read(path))  # type: ignore[func-returns-value]
    shards = write_shards(tmp_path, TENSORS, num_shards=2)
    files = OpenFiles()
    lazy = open_weights(tmp_path, files)
    for one in lazy.values():
        one.load()
    assert opened == [shard.name for shard in shards] * 2  # once for the names, once for the numbers
    files.close()
    lazy["d"].load()
    assert opened[-1] == shards[0].name


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_file_is_opened_again_before_too_much_of_it_is_in_memory(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mgie_lit.checkpoints import lazy as module

    (shard,) = write_shards(tmp_path, TENSORS, stem="model", suffix=suffix)
    files = OpenFiles()
    lazy = open_weights(tmp_path, files)
    monkeypatch.setattr(module, "REOPEN_BYTES", 20)
    kept = lazy["d"].load()  # 24 bytes
    assert shard not in files._open
    assert torch.equal(lazy["c"].load(), TENSORS["c"])
    assert shard in files._open
    assert torch.equal(kept, TENSORS["d"])


@pytest.mark.faults
class TestFaults:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="expected a folder or file of weights, found nothing"):
            open_weights(tmp_path / "x")
        with pytest.raises(CheckpointError, match=r"expected weights named model.*found none"):
            open_weights(tmp_path)

    @pytest.mark.parametrize("has_index", [True, False])
    def test_missing_shards_are_listed(self, has_index: bool, tmp_path: Path) -> None:
        shards = write_shards(tmp_path, TENSORS, num_shards=4, has_index=has_index)
        shards[1].unlink()
        shards[2].unlink()
        with pytest.raises(
            CheckpointError, match=r"2 of 4 shards are missing.*00002-of-00004\.bin, .*00003-of-00004\.bin"
        ):
            open_weights(tmp_path)

    def test_a_name_in_two_shards(self, tmp_path: Path) -> None:
        shards = write_shards(tmp_path, TENSORS, num_shards=2)
        shards[1].write_bytes(shards[0].read_bytes())
        with pytest.raises(
            CheckpointError, match=r"every tensor once, got twice: d \(pytorch_model-00001.*00002-of-00002"
        ):
            open_weights(tmp_path)

    def test_an_index_of_other_weights(self, tmp_path: Path) -> None:
        shards = write_shards(tmp_path, TENSORS, num_shards=2)
        torch.save({"z": torch.ones(1)}, shards[1])
        with pytest.raises(CheckpointError, match="names tensors that no shard holds: c, b, e"):
            open_weights(tmp_path)

    @pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', '{"a": 1}'])
    def test_a_damaged_index(self, text: str, tmp_path: Path) -> None:
        write_shards(tmp_path, TENSORS, num_shards=2)
        (tmp_path / "pytorch_model.bin.index.json").write_text(text)
        with pytest.raises(CheckpointError, match="expected a JSON object with weight_map"):
            open_weights(tmp_path)

    def test_an_index_that_points_elsewhere(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
        with pytest.raises(CheckpointError, match=r"names of files beside it, got \.\./secret\.safetensors"):
            open_weights(tmp_path)

    def test_a_cut_safetensors_file(self, tmp_path: Path) -> None:
        (file,) = write_shards(tmp_path, TENSORS, stem="model", suffix=".safetensors")
        file.write_bytes(file.read_bytes()[:-5])
        with pytest.raises(CheckpointError, match=r"model\.safetensors: expected a whole safetensors file"):
            open_weights(tmp_path)

    def test_an_unknown_number_type(self, tmp_path: Path) -> None:
        (file,) = write_shards(tmp_path, {"a": torch.ones(2, dtype=torch.uint16)}, stem="model", suffix=".safetensors")
        with pytest.raises(CheckpointError, match="a has type U16; expected one of F64"):
            open_weights(file)
