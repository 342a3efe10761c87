"""Whole trainings in two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SMOKE = ["experiment=smoke", "callbacks.evaluate=null", "trainer.accelerator=cpu"]
PAIR = ["trainer=ddp", "trainer.devices=2", "data.batch_size=2"]


def mgie(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mgie_lit.cli.main", "train", *SMOKE, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(run_dir: Path) -> list[str]:
    """Command lines of processes that work on a run."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return [command for command in commands if "mgie_lit.cli.rank" in command and str(run_dir) in command]


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(tmp_path) == [], "a process was left"


def wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


def test_a_fault_of_the_user_is_said_once(run_dir: Path) -> None:
    process = mgie(f"paths.run_dir={run_dir}", *PAIR, "data.num_examples.train=2")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2, errors
    assert errors.count("expected at most the 1 training examples that each of 2 processes has") == 1
    assert "Traceback" not in errors
    assert not (run_dir / "config.yaml").exists(), "the directory can be used again"


def test_a_process_that_dies_ends_the_other(run_dir: Path) -> None:
    process = mgie(f"paths.run_dir={run_dir}", *PAIR, "trainer.max_steps=1000", "effective_batch_size=null")
    wait_for((run_dir / "metrics.csv").exists)
    pids = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"mgie_lit.cli.rank" in path.read_bytes() and str(run_dir).encode() in path.read_bytes()
    ]
    assert len(pids) == 2
    os.kill(max(pids), signal.SIGKILL)
    since = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - since < 30
    assert process.returncode == 1
    assert "ended by signal 9" in errors or "failed" in errors


def test_no_process_outlives_the_one_that_started_it(run_dir: Path) -> None:
    process = mgie(f"paths.run_dir={run_dir}", *PAIR, "trainer.max_steps=1000")
    wait_for((run_dir / "metrics.csv").exists)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("pair", [[], PAIR], ids=["one process", "two"])
def test_sigterm_leaves_a_checkpoint(pair: list[str], run_dir: Path) -> None:
    process = mgie(
        f"paths.run_dir={run_dir}", *pair, "trainer.max_steps=1000", "callbacks.checkpoint.every_n_train_steps=900"
    )
    wait_for((run_dir / "metrics.csv").exists)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert len(list((run_dir / "checkpoints").glob("*.ckpt"))) == 1


AGAIN = ["compute.checkpoint_unet=true", "compute.checkpoint_language_model=true"]
WAYS = {  # to compute a step
    "plain": [],
    "again": AGAIN,
    "compiled": ["compute.compile_unet=eager", "compute.compile_language_model=eager"],
    "both": [*AGAIN, "compute.compile_unet=aot_eager", "compute.compile_language_model=aot_eager"],
}


def weights_of_two(folder: Path, way: str) -> dict[str, torch.Tensor]:
    """What two processes learn in two steps."""
    run_dir = folder / way
    process = mgie(f"paths.run_dir={run_dir}", *PAIR, "trainer.max_steps=2", *WAYS[way])
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    content = torch.load(run_dir / "checkpoints" / "step-00000002.ckpt", weights_only=True)
    return dict(content["state_dict"])


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights_of_two(tmp_path_factory.mktemp("pair"), "plain")


def test_layers_computed_again_learn_the_same_in_two_processes(
    plain_weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    found = weights_of_two(tmp_path, "again")
    assert found.keys() == plain_weights.keys()
    assert [name for name, weight in found.items() if not torch.equal(weight, plain_weights[name])] == []


@pytest.mark.parametrize("way", ["compiled", "both"])
def test_compiled_blocks_learn_the_same_in_two_processes(
    way: str, plain_weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    found = weights_of_two(tmp_path, way)
    assert found.keys() == plain_weights.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, plain_weights[name], rtol=1e-3, atol=1e-5, msg=name)
