"""Sweeps of a job that computes nothing, in this process or in those of a launcher."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from mgie_lit.cli.hydra_app import run_hydra
from mgie_lit.cli.launch import ProcessKilledError
from mgie_lit.errors import ConfigError
from mgie_lit.trials import TrialRecord

CHECKPOINT = "checkpoint"


@dataclass
class Job:
    """Writes down that it ran, and gives ``log10(lr) + seed``, or does what it is told to do for a seed."""

    log: Path
    actions: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __call__(self, config: DictConfig) -> float | None:
        entry = {"seed": config.seed, "lr": config.optimizer.lr, "pid": os.getpid(), "began": time.monotonic()}
        entry |= {
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "resume": config.resume,
            "sweep": "sweep" in config,
        }
        Path(config.paths.run_dir, CHECKPOINT).touch()
        time.sleep(self.seconds)
        with self.log.open("a") as file:
            file.write(json.dumps(entry | {"ended": time.monotonic()}) + "\n")
        return self._end(config)

    def _end(self, config: DictConfig) -> float | None:
        value = math.log10(config.optimizer.lr) + config.seed
        match self.actions.get(config.seed):
            case "fault":
                raise ConfigError("no good")
            case "error":
                raise KeyError("internal")
            case "killed":
                raise ProcessKilledError("process 1 of 2 ended by signal 9")
            case "no value":
                return None
            case "nan":
                return math.nan
            case "exit":
                raise SystemExit(3)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            case "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
        return value


class App:
    """``mgie train -m`` on the small config tree."""

    def __init__(self, tree: Path, workplace: Path) -> None:
        self.tree, self.workplace = tree, workplace
        self.sweep_dir = workplace / "sweep"
        self.place = [f"hydra.sweep.dir={self.sweep_dir}"]
        self.log = workplace / "log"

    def __call__(self, *arguments: str, actions: dict[int, str] | None = None, seconds: float = 0.0) -> None:
        run_hydra(
            "train",
            ["--config-path", str(self.tree), "-m", *self.place, *arguments],
            Job(self.log, actions or {}, seconds),
            can_resume=can_resume,
        )

    def resume(self, *arguments: str, actions: dict[int, str] | None = None, command: str = "train") -> None:
        job = Job(self.log, actions or {})
        run_hydra(command, ["-m", f"sweep.resume={self.sweep_dir}", *arguments], job, can_resume=can_resume)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What the job wrote down, a dict a run."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def seeds(self) -> list[int]:
        return [run["seed"] for run in self.runs]

    @property
    def records(self) -> list[TrialRecord]:
        found = [TrialRecord.read(path.parent) for path in self.sweep_dir.glob("*/trial.json")]
        return sorted((one for one in found if one), key=lambda one: one.number)

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.records]

    @property
    def values(self) -> list[float | None]:
        return [record.value for record in self.records]


def can_resume(directory: Path) -> bool:
    return (directory / CHECKPOINT).exists()


@pytest.fixture
def app(conf_tree: Path, workplace: Path) -> App:
    (conf_tree / "sweep").mkdir()
    (conf_tree / "sweep" / "default.yaml").write_text("{resume: null, direction: minimize, devices: null}")
    primary = conf_tree / "train.yaml"
    text = primary.read_text().replace("  - hydra: default", "  - hydra: default\n  - sweep: default")
    text = text.replace("trainer: {max_steps: 10}", "trainer: {max_steps: 10, devices: 1, accelerator: cpu}")
    primary.write_text(text + "resume: null\noptimized_metric: val/loss\n")
    return App(conf_tree, workplace)


@pytest.fixture(autouse=True)
def _keep_logging() -> Iterator[None]:
    """Hydra configures the process's logging; put it back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def by_value() -> Iterator[None]:
    """Let workers get the job itself: they can not import the tests."""
    import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)
