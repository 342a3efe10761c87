"""Whole runs with a deriver that needs no model: order, restarts, shards, what is refused."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mgie_lit.data.readers.expressive import read_expressive
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.expressive.derive import check_path, derive
from mgie_lit.prepare.expressive.derivers import Answer
from mgie_lit.prepare.expressive.flags import FlagRules
from mgie_lit.prepare.expressive.parts import parts_folder
from mgie_lit.prepare.expressive.requests import Requests
from mgie_lit.prepare.expressive.shards import Shard

from .conftest import CPU, INSTRUCTIONS, FakeDeriver, recipe, write_pairs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "words.jsonl"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def whole(requests: Requests, tmp_path: Path) -> bytes:
    """What a run without interruption writes."""
    return derive(requests, recipe(), tmp_path / "whole.jsonl", device=CPU).read_bytes()


def test_a_row_a_pair_in_the_order_of_the_data(requests: Requests, path: Path) -> None:
    deriver = FakeDeriver()
    assert derive(requests, recipe(deriver), path, device=CPU, environment={"versions": {"torch": "x"}}) == path
    rows = rows_of(path)
    assert [row["id"] for row in rows] == requests.ids
    settings = json.loads((path.parent / "words.settings.json").read_text())
    assert rows[1] == {
        "id": "val-1",
        "split": "val",
        "instruction": "a blue sky, please",
        "answer": "The picture shows a blue sky, please. It is bright.",
        "cleaned": "The picture shows a blue sky, please. It is bright.",
        "expressive_instruction": "The picture shows a blue sky, please. It is bright.",
        "flags": [],
        "settings": settings["hash"],
    }
    assert settings["environment"] == {"versions": {"torch": "x"}, "device": "cpu"}
    assert settings["settings"]["deriver"]["kind"] == "FakeDeriver"
    assert json.loads((path.parent / "words.report.json").read_text())["num_rows"] == 7
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "words.jsonl", "words.report.json", "words.settings.json"
    ]  # fmt: skip
    assert max(map(len, deriver.batches)) == 2


def test_readers_take_the_file(requests: Requests, path: Path, tmp_path: Path) -> None:
    derive(requests, recipe(), path, device=CPU)
    assert dict(read_expressive([path]))["val-5"] == "The picture shows fog. It is bright."
    dataset = ImageFolder("val", root=tmp_path / "data", expressive=str(path))
    assert dataset.missing_expressive() == (0, [])


def test_like_lengths_are_asked_about_together(requests: Requests, path: Path, tmp_path: Path) -> None:
    sorted_one, plain = FakeDeriver(), FakeDeriver()
    derive(requests, recipe(sorted_one), path, device=CPU)
    derive(requests, recipe(plain, sort=False), tmp_path / "plain.jsonl", device=CPU)
    assert sorted_one.batches == [
        ["a much brighter sea", "a blue sky, please"], ["more fog now", "make it red"],
        ["remove it", "add snow"], ["fog"],
    ]  # fmt: skip
    assert [text for batch in plain.batches for text in batch] == INSTRUCTIONS


@pytest.mark.parametrize("stop_at", range(4))
def test_stopped_run_goes_on(
    requests: Requests, path: Path, whole: bytes, stop_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=stop_at)), path, device=CPU)
    assert not path.exists()
    rest = FakeDeriver()
    with caplog.at_level(logging.WARNING):
        derive(requests, recipe(rest), path, device=CPU)
    assert path.read_bytes() == whole
    assert len(rest.batches) == 4 - stop_at
    assert ("going on after" in caplog.text) == (stop_at > 0)


def test_torn_at_any_byte(requests: Requests, path: Path, whole: bytes) -> None:
    """Whatever a kill or a power cut leaves of the part, the rest is made again and nothing comes twice."""
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=2)), path, device=CPU)
    part = next(parts_folder(path).glob("part-*.jsonl"))
    content = part.read_bytes()
    settings = (parts_folder(path) / "settings.json").read_bytes()
    for size in [
        *range(0, len(content), 101),
        len(content) - 1,
        content.rindex(b"\n", 0, -1),
        content.rindex(b"\n", 0, -1) + 1,
    ]:
        parts_folder(path).mkdir(exist_ok=True)
        (parts_folder(path) / "settings.json").write_bytes(settings)
        part.write_bytes(content[:size])
        derive(requests, recipe(), path, device=CPU)
        assert path.read_bytes() == whole, size
        for file in path.parent.glob("words.*"):
            file.unlink()


def test_two_shards_make_the_same_file(
    requests: Requests, path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = FakeDeriver(), FakeDeriver()
    with caplog.at_level(logging.WARNING):
        done = derive(requests, recipe(first), path, device=CPU, shard=Shard(0, 2))
    assert done == parts_folder(path) / "part-00000-of-00002.jsonl"
    assert "shard 0/2 is done, others are not" in caplog.text
    assert not path.exists()
    assert derive(requests, recipe(second), path, device=CPU, shard=Shard(1, 2)) == path
    assert path.read_bytes() == whole
    assert sorted(text for batch in first.batches + second.batches for text in batch) == sorted(INSTRUCTIONS)
    assert (len(first.batches), len(second.batches)) == (2, 2)


def test_other_number_of_shards_goes_on(requests: Requests, path: Path, whole: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=1)), path, device=CPU, shard=Shard(1, 2))
    counts = []
    for index in range(3):
        deriver = FakeDeriver()
        derive(requests, recipe(deriver), path, device=CPU, shard=Shard(index, 3))
        counts.append(len(deriver.batches))
    assert path.read_bytes() == whole
    assert sum(counts) == 3


def test_shard_without_work_loads_no_model(requests: Requests, path: Path) -> None:
    deriver = FakeDeriver()
    derive(requests, recipe(deriver), path, device=CPU, shard=Shard(9, 10))
    assert not deriver.is_loaded


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 3}, "batch_size: 2 before, 3 now"),
        ({"on_empty": "nothing"}, "on_empty: instruction before, nothing now"),
        ({"deriver": FakeDeriver(words="{}")}, "deriver.words: The picture shows"),
        ({"flags": FlagRules(max_words=9)}, "flags.max_words: 64 before, 9 now"),
    ],
)
def test_other_settings_are_refused(requests: Requests, path: Path, changes: dict[str, Any], difference: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=1)), path, device=CPU)
    with pytest.raises(ConfigError, match=r"expected the settings that .*words\.jsonl\.parts was begun with") as caught:
        derive(requests, recipe(**changes), path, device=CPU)
    assert difference in str(caught.value)


def test_other_data_are_refused(requests: Requests, path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=1)), path, device=CPU)
    other = Requests({"val": ImageFolder("val", root=write_pairs(tmp_path / "other", [*INSTRUCTIONS, "one more"]))})
    with pytest.raises(ConfigError, match=r"data\.num_rows: 7 before, 8 now"):
        derive(other, recipe(), path, device=CPU)


def test_other_environment_is_told(requests: Requests, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=1)), path, device=CPU, environment={"versions": {"torch": "1"}})
    with caplog.at_level(logging.WARNING):
        derive(requests, recipe(), path, device=CPU, environment={"versions": {"torch": "2"}})
    assert "going on in another environment, so words may differ: versions.torch (1 before, 2 now)" in caplog.text


def test_finished_file_is_left_alone(requests: Requests, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    derive(requests, recipe(), path, device=CPU)
    before = path.stat().st_mtime_ns
    deriver = FakeDeriver()
    with caplog.at_level(logging.WARNING):
        assert derive(requests, recipe(deriver), path, device=CPU) == path
    assert "finished already with these settings" in caplog.text
    assert path.stat().st_mtime_ns == before
    assert not deriver.batches
    with pytest.raises(ConfigError, match=r"expected a new file, but .*words\.jsonl exists and is not overwritten"):
        derive(requests, recipe(batch_size=3), path, device=CPU)


@pytest.mark.parametrize("name", ["words.jsonl", "words.settings.json", "words.report.json"])
def test_nothing_is_overwritten(requests: Requests, path: Path, name: str) -> None:
    path.parent.mkdir()
    (path.parent / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"expected a new file, but .*{name} exists .* expressive\.path="):
        check_path(path)
    with pytest.raises(ConfigError, match="is not overwritten"):
        derive(requests, recipe(), path, device=CPU)
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_file_that_appears_during_the_run(requests: Requests, path: Path, whole: bytes) -> None:
    class Rival(FakeDeriver):
        def answer(self, *args: Any) -> list[Answer]:  # noqa: ANN401
            path.write_text("mine\n")
            return super().answer(*args)

    with pytest.raises(ConfigError, match=r"exists and is not of this run; .* Move it away and run the same command"):
        derive(requests, recipe(Rival()), path, device=CPU)
    assert path.read_text() == "mine\n"
    with pytest.raises(ConfigError, match=r"exists and is not of the run in .*words\.jsonl\.parts"):
        derive(requests, recipe(), path, device=CPU)
    path.unlink()
    derive(requests, recipe(FakeDeriver(stop_at=0)), path, device=CPU)  # all rows are kept
    assert path.read_bytes() == whole


def test_killed_after_the_file_was_made(requests: Requests, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mgie_lit.prepare.expressive.finish.make_report", killed)
        with pytest.raises(KeyboardInterrupt):
            derive(requests, recipe(), path, device=CPU)
    assert path.exists()
    assert parts_folder(path).exists()
    derive(requests, recipe(FakeDeriver(stop_at=0)), path, device=CPU)
    assert (path.parent / "words.report.json").exists()
    assert not parts_folder(path).exists()


def test_shard_that_another_process_has(requests: Requests, path: Path) -> None:
    parts_folder(path).mkdir(parents=True)
    with (
        FileLock(parts_folder(path) / "part-00000-of-00001.jsonl.lock"),
        pytest.raises(
            ConfigError, match=r"expressive\.shard: expected a shard that nobody works on, but another process"
        ),
    ):
        derive(requests, recipe(), path, device=CPU)
    with (
        FileLock(parts_folder(path) / "part-00000-of-00001.jsonl.lock"),
        pytest.raises(
            ConfigError, match=r"number of shards that are at work .* got 2, but part-00000-of-00001\.jsonl is"
        ),
    ):
        derive(requests, recipe(), path, device=CPU, shard=Shard(0, 2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense\n", "expected a row of this run, got something else"),
        (b'{"id": "val-99", "settings": ""}\n', r"expected a row of this run, got something else \(KeyError"),
        (b'{"id": "val-0", "settings": "0000"}\n', r"expected settings [0-9a-f]{16}, got 0000"),
    ],
)
def test_damaged_part(requests: Requests, path: Path, line: bytes, message: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=2)), path, device=CPU)
    part = next(parts_folder(path).glob("part-*.jsonl"))
    part.write_bytes(line + part.read_bytes())
    with pytest.raises(DataError, match=rf"part-00000-of-00001\.jsonl, line 1: {message}.*remove the file"):
        derive(requests, recipe(), path, device=CPU)


def test_part_with_a_row_taken_out(requests: Requests, path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=2)), path, device=CPU)
    part = next(parts_folder(path).glob("part-*.jsonl"))
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[1:]))
    with pytest.raises(DataError, match=r"line 1: expected the row of val-4, got that of val-1; the file was changed"):
        derive(requests, recipe(), path, device=CPU)


def test_batch_that_two_parts_hold_counts_once(requests: Requests, path: Path, whole: bytes) -> None:
    """Locks do not work on every network drive."""
    with pytest.raises(KeyboardInterrupt):
        derive(requests, recipe(FakeDeriver(stop_at=2)), path, device=CPU)
    part = next(parts_folder(path).glob("part-*.jsonl"))
    (parts_folder(path) / "part-00001-of-00002.jsonl").write_bytes(part.read_bytes())
    derive(requests, recipe(), path, device=CPU)
    assert path.read_bytes() == whole


_KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.prepare.expressive.derive import derive
from mgie_lit.prepare.expressive.derivers import Answer
from mgie_lit.prepare.expressive.recipe import Recipe
from mgie_lit.prepare.expressive.requests import Requests

class Deriver:
    sees, asked, words = False, 0, "The picture shows {}. It is bright."
    def check(self): pass
    def load(self, device): pass
    def settings(self, device): return {"kind": "FakeDeriver", "words": self.words, "dtype": "float32"}
    def answer(self, instructions, images):
        if self.asked == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        self.asked += 1
        return [Answer(self.words.format(text), is_finished=True) for text in instructions]

requests = Requests({"val": ImageFolder("val", root=sys.argv[1])})
derive(requests, Recipe(Deriver(), batch_size=2), Path(sys.argv[2]), device=torch.device("cpu"))
"""


@pytest.mark.slow
def test_killed_again_and_again(requests: Requests, path: Path, whole: bytes, tmp_path: Path) -> None:
    for _ in range(3):  # SIGKILL in the second batch of each run
        command = [sys.executable, "-c", _KILLED, str(tmp_path / "data"), str(path), "1"]
        killed = subprocess.run(command, capture_output=True, check=False, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    rest = FakeDeriver()
    derive(requests, recipe(rest), path, device=CPU)
    assert path.read_bytes() == whole
    assert len(rest.batches) == 1, "each run before has kept the batch that it had finished"
