"""Trainings that are killed anywhere, again and again, end as those that were not, to the last bit."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SMALL = (
    "experiment=smoke", "metrics=pixel", "callbacks=[default,ema]", "callbacks.ema.decay=0.9", "data.batch_size=2",
    "data.num_examples={train: 7, val: 3, test: 1}", "trainer.max_steps=6",
    "callbacks.checkpoint.every_n_train_steps=1",
    "callbacks.evaluate.num_examples=2", "callbacks.evaluate.num_images=2", "sampler.options.num_inference_steps=1",
)  # fmt: skip
NO_EDITS = "callbacks.evaluate=null"
PAIR = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
KINDS = {"file": 4, "chunk": 2, "row": 1, "batch": 2, "validation": 1, "cpu": 4}  # how often, relative to each other
SHORT, LONG = 1, 8  # kills of a case
SEED = 20261127

Compare = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Case:
    """A kind of training."""

    overrides: tuple[str, ...]
    num_ranks: int = 1
    data: str = ""  # that is written first


CASES = {
    "one process, edits in validation": Case((*SMALL,)),
    "two loaders, accumulation": Case(
        (*SMALL, NO_EDITS, "data.num_workers=2", "trainer.accumulate_grad_batches=2", "data.num_examples.train=13")
    ),
    "shards": Case((*SMALL, NO_EDITS, "data.num_workers=2", "data.num_examples.train=null"), data="shards"),
    "mixture": Case((*SMALL, NO_EDITS, "data.num_examples.train=7"), data="mixture"),
    "two processes": Case((*SMALL, NO_EDITS, *PAIR, "data.batch_size=1"), num_ranks=2),
    "two processes, loaders, accumulation": Case(
        (
            *SMALL,
            NO_EDITS,
            *PAIR,
            "data.num_workers=1",
            "trainer.accumulate_grad_batches=2",
            "data.num_examples.train=13",
        ),
        num_ranks=2,
    ),
}


@dataclass
class Kills:
    """What was done to the trainings of a case."""

    count: int = 0
    stops: list[str] = field(default_factory=list)
    slowest_end: float = 0.0  # seconds until the last process was gone


@pytest.fixture
def make_data(server: Any, tmp_path: Path) -> Callable[[str], list[str]]:  # noqa: ANN401
    """Writes a data set and gives the overrides that choose it."""
    from mgie_lit.testing.datasets import write_ipr2pr, write_magicbrush

    def make(kind: str) -> list[str]:
        words = "data.expressive=instruction"
        if kind == "shards":
            write_magicbrush(tmp_path / "brush", splits=("train", "dev"))
            source = ("data=magicbrush", f"data.root={tmp_path / 'brush'}", words, "shards.num_workers=0")
            server.run("prepare", "shards", *source, f"shards.path={tmp_path / 'shards'}")
            return ["data=shards", f"data.root={tmp_path / 'shards'}", "data.block_size=4", "data.window=2"]
        if kind == "mixture":
            write_magicbrush(tmp_path / "brush", splits=("train", "dev"))
            write_ipr2pr(tmp_path / "pairs")
            roots = [f"data.ipr2pr.root={tmp_path / 'pairs'}", f"data.magicbrush.root={tmp_path / 'brush'}"]
            return ["data=ipr2pr_magicbrush", *roots, words, "data.num_workers=0"]
        return []

    return make


def kill_and_compare(
    server: Any,  # noqa: ANN401
    compare: Compare,
    case: Case,
    extra: list[str],
    folder: Path,
    *,
    kills: int,
    seed: int,
) -> Kills:
    """Kill trainings of a case so many times in all, resume them to their end, compare them with one that was not."""
    rng = random.Random(seed)
    straight = folder / "straight"
    overrides = [*case.overrides, *extra]
    whole = server.run("train", *overrides, f"paths.run_dir={straight}")
    done = Kills()
    while done.count < kills:
        run_dir = folder / f"killed-{done.count}"
        argv = ["train", *overrides, f"paths.run_dir={run_dir}"]
        status = None
        for _ in range(min(rng.randint(1, 4), kills - done.count)):
            status = kill(server, argv, draw(rng, case, whole), rng, done)
            if (run_dir / "config.yaml").is_file():
                argv = ["train", f"resume={run_dir}"]
            if status == 0:  # it came to its end before
                break
        if status != 0:
            server.run(*argv)
        compare(straight, run_dir)
        shutil.rmtree(run_dir)
    return done


def draw(rng: random.Random, case: Case, whole: Any) -> dict[str, Any]:  # noqa: ANN401
    """Where to kill: one of the events of the whole training, or a moment of its CPU time."""
    kinds = {kind: weight for kind, weight in KINDS.items() if kind == "cpu" or whole.events.get(kind)}
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    if kind == "cpu":
        return {"kind": kind, "at": round(rng.uniform(0.05, 1.0) * whole.cpu_s, 2)}
    rank = (
        0
        if case.num_ranks == 1 or kind in ("chunk", "row")
        else rng.choice([-1, 0, 0, 1] if kind == "file" else [0, 1])
    )
    most = 12 if rank == -1 else whole.events[kind]
    return {"kind": kind, "at": rng.randint(1, most), "rank": rank}


def kill(server: Any, argv: list[str], stop: dict[str, Any], rng: random.Random, done: Kills) -> int:  # noqa: ANN401
    """Run a command that is killed, unless it ends before; its status."""
    command = server.start(*argv, stop=stop)
    if stop["kind"] == "cpu":
        while command.poll() is None:
            if command.cpu_seconds() >= stop["at"]:
                victims = command.processes()
                if victims:
                    command.kill(rng.choice(victims))
                break
    ended = command.wait()
    if ended.status != 0:
        done.count += 1
        done.stops.append(" ".join(f"{key}={value}" for key, value in stop.items()))
        done.slowest_end = max(done.slowest_end, ended.seconds)
        assert ended.status in (-9, 1, 2), ended.log
    return int(ended.status)


@pytest.mark.parametrize("name", ["one process, edits in validation", "two processes, loaders, accumulation"])
def test_killed_here_and_there(
    name: str,
    server: Any,  # noqa: ANN401
    assert_same_run: Compare,
    tmp_path: Path,
) -> None:
    """A short version of the next test, for every run of the tests."""
    few = ["trainer.max_steps=4", "data.num_workers=0"]
    done = kill_and_compare(server, assert_same_run, CASES[name], few, tmp_path, kills=SHORT, seed=SEED)
    assert done.count == SHORT


@pytest.mark.kills
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("name", "seed"), [(name, SEED + index) for index, name in enumerate(CASES)])
def test_killed_everywhere(
    name: str,
    seed: int,
    server: Any,  # noqa: ANN401
    assert_same_run: Compare,
    make_data: Callable[[str], list[str]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Loaders, accumulation, shards, mixtures, two processes."""
    before = server.cpu_s
    extra = make_data(CASES[name].data)
    done = kill_and_compare(server, assert_same_run, CASES[name], extra, tmp_path, kills=LONG, seed=seed)
    spent = f"{server.cpu_s - before:.0f} s CPU, last process gone after {done.slowest_end:.1f} s"
    record_property("summary", f"{name}: seed {seed}, {done.count} kills, {spent}; {', '.join(done.stops)}")
    assert done.count == LONG


@pytest.mark.kills
@pytest.mark.parametrize("name", ["one process, edits in validation", "two processes"])
def test_the_command_as_it_is_typed(name: str, server: Any, assert_same_run: Compare, tmp_path: Path) -> None:  # noqa: ANN401
    """Killed after its third checkpoint, in a process that has imported everything itself."""
    overrides = ("train", *CASES[name].overrides)
    server.run(*overrides, f"paths.run_dir={tmp_path / 'straight'}")
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "mgie_lit.cli.main"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *overrides, f"paths.run_dir={run_dir}"], env=environment, cwd=tmp_path)
    while not (run_dir / "checkpoints" / "step-00000003.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9
    time.sleep(2.0)  # for ranks, whose parent it was
    subprocess.run([*command, "train", f"resume={run_dir}"], env=environment, cwd=tmp_path, check=True)
    assert_same_run(tmp_path / "straight", run_dir)
