"""A training whose processes torchrun or srun has started: rank 0 resolves the config, the others are handed it."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.cli.messages import user_message
from mgie_lit.config.processes import TORCHRUN, Place, cluster_environment
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mgie_lit.config.run import Training

START_MINUTES = 30  # for all to arrive, and rank 0 to resolve the config
SAY_SECONDS = 5.0  # that another process has to say what is wrong with all of them
_TRAINING, _FAILED, _SPOKEN = "training", "rank-0-failed", "spoken"


@dataclass
class Group:
    """The processes of a training, as they talk to each other before and after it."""

    place: Place
    store: Any  # of torch.distributed; keys of this start alone

    @classmethod
    def join(cls, place: Place) -> Group:
        """Meet the others.

        Args:
            place: Of this process.

        Returns:
            The group.
        """
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        environment = cluster_environment()
        has_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(
            environment.main_address,
            environment.main_port + (0 if has_agent else 1),  # the next one is for the training itself
            place.world_size,
            is_master=place.rank == 0 and not has_agent,
            timeout=timedelta(minutes=START_MINUTES),
            wait_for_workers=False,
        )
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if place.launcher == TORCHRUN else "0"
        return cls(place, PrefixStore(f"mgie/{start}", store))

    def lead(self, training: Training, num_processes: int) -> float | None:
        """Hand a training to all processes and take part in it; what ``config.run.train`` launches with.

        Args:
            training: Resolved by this process, which is rank 0.
            num_processes: Of this machine.

        Returns:
            What it gave.

        Raises:
            ConfigError: It is meant for another number of processes.
        """
        self.place.check(training.config)
        self.store.set(_TRAINING, json.dumps(training.as_record()))
        return training.run()

    def follow(self) -> None:
        """Take part in the training that rank 0 hands out; ends the process where that fails."""
        from mgie_lit.config.run import Training

        errors = sys.stderr
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - rank 0 speaks for all
        record = json.loads(self.store.get(_TRAINING))
        if record is None:  # rank 0 has said why
            os._exit(1)
        try:
            Training.from_record(record).run()
        except Exception as error:
            if self._may_speak():
                message = user_message(error)
                said = f"error: {message}" if message else f"failed\n{traceback.format_exc()}"
                errors.write(f"mgie train: process {self.place.rank} of {self.place.world_size}: {said}\n")
                errors.flush()
            os._exit(1)  # no waiting for processes that wait for this one

    def fail(self) -> None:
        """Tell the others that rank 0 has failed, and says why itself."""
        self.store.set(_FAILED, "")
        if not self.store.check([_TRAINING]):
            self.store.set(_TRAINING, json.dumps(None))

    def _may_speak(self) -> bool:
        """Whether nobody else says what is wrong: it is often the same in all processes."""
        deadline = time.monotonic() + SAY_SECONDS
        try:
            while time.monotonic() < deadline:
                if self.store.check([_FAILED]):
                    return False
                time.sleep(0.1)
            return int(self.store.add(_SPOKEN, 1)) == 1
        except Exception:  # rank 0, which holds the store, has gone
            return True


def train_together(argv: Sequence[str], place: Place, lead: Callable[[Group], None]) -> None:
    """Train in the processes that a launcher has started.

    Args:
        argv: What was typed.
        place: Of this process.
        lead: Runs the command in rank 0, with the group's `Group.lead`.

    Raises:
        ConfigError: A sweep, which starts processes by itself.
    """
    if {"-m", "--multirun"} & set(argv):
        raise ConfigError(
            f"-m: expected a sweep to be started once, got one in each process of {place.launcher}; a sweep starts the "
            f"processes of its trials itself, so run it without {place.launcher}"
        )
    group = Group.join(place)
    if place.rank:
        group.follow()
        return
    try:
        lead(group)
    except BaseException:
        group.fail()
        raise
