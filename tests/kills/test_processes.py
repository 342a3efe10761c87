"""Trainings in two processes: what one process would have learnt, and one end for all of them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SMALL = (
    "experiment=smoke", "callbacks=[default,ema]", "callbacks.ema.decay=0.9", "callbacks.evaluate=null",
    "data.num_examples={train: 26, val: 4, test: 1}", "trainer.accelerator=cpu", "trainer.max_steps=6",
    "callbacks.checkpoint.every_n_train_steps=1", "trainer.gradient_clip_val=0.5",
)  # fmt: skip
DOUBLE = "trainer.precision=64-true"  # but for some float32 sums, whose rounding six steps do not magnify much
PAIR = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
END_SECONDS = 30.0


def losses(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name)]


@pytest.fixture
def assert_close(read_rows: Callable[[Path], list[dict[str, str]]]) -> Callable[[Path, Path, tuple[str, ...]], None]:
    """Losses, norms and weights of two runs are equal up to the order of sums."""

    def compare(first: Path, second: Path, names: tuple[str, ...]) -> None:
        tables = [read_rows(folder) for folder in (first, second)]
        assert [row["step"] for row in tables[0]] == [row["step"] for row in tables[1]]
        for name in names:
            values = losses(tables[0], name)
            assert len(values) >= 3, name
            assert values == pytest.approx(losses(tables[1], name), rel=1e-6), name
        for path in sorted((first / "checkpoints").glob("*.ckpt")):
            contents = [torch.load(folder / "checkpoints" / path.name, weights_only=True) for folder in (first, second)]
            for get in (lambda content: content["state_dict"], lambda content: content["mgie_ema"]["weights"]):
                ours, theirs = map(get, contents)
                assert ours.keys() == theirs.keys()
                for name, value in ours.items():
                    assert torch.allclose(value, theirs[name], rtol=1e-5, atol=1e-6), name

    return compare


def test_two_processes_learn_what_one_does(
    server: Any,  # noqa: ANN401
    assert_close: Callable[[Path, Path, tuple[str, ...]], None],
    tmp_path: Path,
) -> None:
    """Half the batch each, texts of unequal length, accumulated and clipped gradients, an average."""
    shared = ("trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4", DOUBLE)
    server.run("train", *SMALL, *shared, "data.batch_size=4", f"paths.run_dir={tmp_path / 'one'}")
    server.run("train", *SMALL, *shared, *PAIR, "data.batch_size=2", f"paths.run_dir={tmp_path / 'two'}")
    names = ("train/loss", "train/loss_lm", "train/loss_edit", "train/grad_norm")
    assert_close(tmp_path / "one", tmp_path / "two", names)
    recorded = json.loads((tmp_path / "two" / "versions.json").read_text())
    assert recorded["rank_config_hashes"] == [recorded["config_hash"]] * 2


@pytest.mark.slow
def test_the_number_of_processes_may_change(
    server: Any,  # noqa: ANN401
    assert_close: Callable[[Path, Path, tuple[str, ...]], None],
    tmp_path: Path,
) -> None:
    """One process, then two, then one again: the same examples a step, so the same losses."""
    run_dir, straight = tmp_path / "run", tmp_path / "straight"
    shared = ("data.batch_size=4", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=4", DOUBLE)
    server.run("train", *SMALL, *shared, f"paths.run_dir={straight}")
    first = {"kind": "batch", "at": 6, "rank": 0}  # in the third step
    server.run("train", *SMALL, *shared, f"paths.run_dir={run_dir}", status=-9, stop=first)
    second = {"kind": "batch", "at": 3, "rank": 1}  # two steps later: a batch a step now
    server.run("train", f"resume={run_dir}", "trainer.devices=2", status=1, stop=second)
    assert sorted(path.name for path in (run_dir / "checkpoints").glob("*.ckpt"))[-1] == "step-00000004.ckpt"
    server.run("train", f"resume={run_dir}", "trainer.devices=1")
    assert_close(straight, run_dir, ("train/grad_norm", "val/loss"))  # the other losses are those of the last batch


@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("kill", "process 1 of 2 ended by signal 9 without a word"),
        pytest.param("exit", "process 1 of 2 ended with exit status 0 without a word", marks=pytest.mark.slow),
        pytest.param("error", "RuntimeError: made to fail here", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_dies_ends_the_other(how: str, message: str, server: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """The other one waits for it in a collective."""
    stop = {"kind": "batch", "at": 2, "rank": 1, "by": how}
    command = server.start("train", *SMALL, *PAIR, "data.batch_size=2", f"paths.run_dir={tmp_path / 'run'}", stop=stop)
    while not list(tmp_path.glob("run/checkpoints/*.ckpt")):
        assert command.poll() is None
        time.sleep(0.05)
    since = time.monotonic()
    ended = command.wait()
    assert ended.status == 1
    assert time.monotonic() - since < END_SECONDS
    assert message in ended.log
    assert ended.log.count("Traceback") == (1 if how == "error" else 0), ended.log
    assert [path.name for path in (tmp_path / "run").glob(".processes*")] == []


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize(
    ("signum", "to_all", "status"),
    [
        (signal.SIGKILL, False, -9),
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
    ],
    ids=["killed", "Ctrl-C", "interrupted", "terminated"],
)
def test_no_process_outlives_the_one_that_started_it(
    signum: int,
    to_all: bool,
    status: int,
    server: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    """With loader processes, too; ``wait`` looks into the process table."""
    run_dir = tmp_path / "run"
    changes = ("data.batch_size=2", "data.num_workers=1", "trainer.max_steps=1000")
    command = server.start(
        "train", *SMALL, *PAIR, *changes, "trainer.val_check_interval=1000", f"paths.run_dir={run_dir}"
    )
    while not list(run_dir.glob("checkpoints/*.ckpt")):
        assert command.poll() is None
        time.sleep(0.05)
    assert len(command.processes()) == 5, "two ranks, a loader each, and the one that started them"
    if to_all:
        os.killpg(command.pid, signum)
    command.kill(signum=signum)
    ended = command.wait()
    assert ended.status == status, ended.log
    assert ended.seconds < END_SECONDS
    assert "Traceback" not in ended.log


@pytest.mark.slow
@pytest.mark.parametrize("pair", [(), PAIR], ids=["one process", "two"])
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(
    signum: int,
    status: int,
    pair: tuple[str, ...],
    server: Any,  # noqa: ANN401
    assert_same_run: Callable[[Path, Path], None],
    tmp_path: Path,
) -> None:
    changes = ("data.batch_size=2", "data.num_workers=1", "trainer.max_steps=12")
    changes += ("callbacks.checkpoint.every_n_train_steps=12",)
    server.run("train", *SMALL, *pair, *changes, f"paths.run_dir={tmp_path / 'straight'}")
    run_dir = tmp_path / "run"
    command = server.start("train", *SMALL, *pair, *changes, f"paths.run_dir={run_dir}")
    while not (run_dir / "metrics.csv").exists():
        assert command.poll() is None
        time.sleep(0.05)
    if signum == signal.SIGINT:
        os.killpg(command.pid, signum)  # as a terminal does
    command.kill(signum=signum)
    ended = command.wait()
    assert ended.status == status, ended.log
    assert "stopped after step" in ended.log
    (checkpoint,) = (run_dir / "checkpoints").glob("*.ckpt")
    assert checkpoint.name < "step-00000012.ckpt"
    server.run("train", f"resume={run_dir}")
    checkpoint.unlink()
    checkpoint.with_name(checkpoint.name + ".sha256").unlink()
    assert_same_run(tmp_path / "straight", run_dir)
