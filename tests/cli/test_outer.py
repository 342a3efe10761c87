"""Whole trainings in two processes that torchrun, or Slurm's variables, have started."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SMOKE = ["experiment=smoke", "callbacks.evaluate=null", "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=2"]
MODULE = ["-m", "mgie_lit.cli.main", "train"]
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def start(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends_of(*processes: subprocess.Popen[str]) -> list[tuple[int, str]]:
    try:
        return [
            (process.returncode, errors) for process in processes for _, errors in [process.communicate(timeout=250)]
        ]
    finally:
        for process in processes:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def torchrun(*arguments: str) -> list[str]:
    return ["-m", "torch.distributed.run", *arguments, *MODULE]


def srun(rank: int, port: int) -> dict[str, str]:
    """What srun sets for one of two tasks on two machines."""
    return {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2",
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": "0", "SLURM_NODEID": str(rank), "SLURM_JOB_ID": "123",
        "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def check(run_dir: Path) -> list[str]:
    """One complete run; its losses."""
    assert (run_dir / "config.yaml").is_file()
    assert json.loads((run_dir / "versions.json").read_text())["config_hash"]
    assert torch.load(run_dir / "checkpoints/step-00000004.ckpt", weights_only=True)["global_step"] == 4
    with (run_dir / "metrics.csv").open(newline="") as file:
        losses = [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 4
    return losses


def test_torchrun_equals_our_own_launcher(tmp_path: Path) -> None:
    """Two machines with a process each, played by two torchruns; neither was told where the run goes."""
    rendezvous = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    machines = ["trainer.devices=1", "trainer.num_nodes=2"]
    processes = [
        start([*torchrun(*rendezvous, f"--node-rank={node}"), *SMOKE, *machines], tmp_path / f"node-{node}")
        for node in range(2)
    ]
    for code, errors in ends_of(*processes):
        assert code == 0, errors
    runs = [path.parent for path in tmp_path.glob("node-*/runs/train/*/config.yaml")]
    assert [run.parents[2].name for run in runs] == ["node-0"], "one directory, that of rank 0"
    own = start([*MODULE, *SMOKE, "trainer.devices=2", "paths.run_dir=own"], tmp_path)
    [(code, errors)] = ends_of(own)
    assert code == 0, errors
    assert check(runs[0]) == check(tmp_path / "own")


def test_srun_on_two_machines(tmp_path: Path) -> None:
    port = free_port()
    machines = ["trainer.devices=1", "trainer.num_nodes=2"]
    processes = [
        start([*MODULE, *SMOKE, *machines], tmp_path / f"node-{rank}", **srun(rank, port)) for rank in range(2)
    ]
    for code, errors in ends_of(*processes):
        assert code == 0, errors
    runs = list(tmp_path.glob("node-*/runs/train/*"))
    assert [run.parents[2].name for run in runs] == ["node-0"]
    check(runs[0])


@pytest.mark.faults
def test_faults_are_said_once(tmp_path: Path) -> None:
    two = torchrun("--standalone", "--nproc-per-node=2")
    for arguments, message in (
        (["trainer.devices=3"], "to be the 2 that torchrun has started, got 3 x 1"),
        (["trainer.devices=2", "data.num_examples.train=2"], "expected at most the 1 training examples that each of 2"),
        (["-m", "trainer.devices=2", "seed=1,2"], "a sweep starts the processes of its trials itself"),
    ):
        [(code, errors)] = ends_of(start([*two, *SMOKE, *arguments], tmp_path))
        assert code != 0
        assert errors.count(message) == 1 + (arguments[0] == "-m"), errors
        assert "internal error" not in errors
