from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from omegaconf import OmegaConf

from mgie_lit.cli.sweep.devices import VISIBLE, DevicePool, demand, only_visible, pool_for
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


def config(devices: object, pool: object = None, accelerator: str = "gpu") -> OmegaConf:
    return OmegaConf.create({"trainer": {"devices": devices, "accelerator": accelerator}, "sweep": {"devices": pool}})


@pytest.fixture
def pool(tmp_path: Path) -> DevicePool:
    return DevicePool(("0", "1", "2", "3"), tmp_path / "locks")


def hold(folder: Path, count: int, has_it: Event, may_end: Event) -> None:
    with DevicePool(("0", "1", "2", "3"), folder).lease(count) as names:
        (folder / f"held-by-{os.getpid()}").write_text(" ".join(names))
        has_it.set()
        may_end.wait(60)


class Holder:
    """A process with a lease."""

    def __init__(self, pool: DevicePool, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.has_it, self.may_end = context.Event(), context.Event()
        self.process = context.Process(target=hold, args=(pool.folder, count, self.has_it, self.may_end))
        self.process.start()
        assert self.has_it.wait(60)
        self.names = (pool.folder / f"held-by-{self.process.pid}").read_text().split()


def test_trials_get_devices_of_their_own(pool: DevicePool) -> None:
    with pool.lease(2) as first, pool.lease(2) as second:
        assert (first, second) == (("0", "1"), ("2", "3"))
    with pool.lease(4) as everything:
        assert everything == ("0", "1", "2", "3")


def test_one_that_ends_makes_room(pool: DevicePool) -> None:
    with pool.lease(1), pool.lease(2):
        pass
    with pool.lease(1) as first:
        with pool.lease(1) as second:
            assert (first, second) == (("0",), ("1",))
        with pool.lease(3) as rest:
            assert rest == ("1", "2", "3")


def test_waits_for_a_lease_to_end(pool: DevicePool) -> None:
    got: list[tuple[str, ...]] = []

    def want() -> None:
        with pool.lease(2) as names:
            got.append(names)

    with pool.lease(3):
        thread = threading.Thread(target=want)
        thread.start()
        time.sleep(0.7)
        assert got == []
        with pool.lease(1) as names:
            assert names == ("3",), "one that waits holds nothing"
    thread.join(10)
    assert got == [("0", "1")]


def test_leases_of_other_processes_count_until_they_die(pool: DevicePool) -> None:
    holder = Holder(pool, 2)
    try:
        assert holder.names == ["0", "1"]
        with pool.lease(2) as names:
            assert names == ("2", "3")
        assert holder.process.pid is not None
        os.kill(holder.process.pid, signal.SIGKILL)
        holder.process.join()
        with pool.lease(4) as names:
            assert names == ("0", "1", "2", "3")
    finally:
        holder.process.kill()


def test_which_pool() -> None:
    assert pool_for(config(1, pool=[4, 5])) == DevicePool(("4", "5"))
    assert pool_for(config(1, pool=["GPU-a1"], accelerator="cpu")) == DevicePool(("GPU-a1",))
    assert pool_for(config(1, accelerator="cpu")) is None
    assert pool_for(OmegaConf.create({"seed": 1})) is None


def test_all_visible_gpus_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv(VISIBLE, raising=False)
    assert pool_for(config(1)) == DevicePool(("0", "1"))
    monkeypatch.setenv(VISIBLE, "6, 7")
    assert pool_for(config(1, accelerator="auto")) == DevicePool(("6", "7"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert pool_for(config(1)) is None


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (4, 4), ("auto", 4), (-1, 4)])
def test_demand(pool: DevicePool, devices: object, count: int) -> None:
    assert demand(config(devices), pool) == count
    assert demand(config(devices), None) == 0


@pytest.mark.faults
@pytest.mark.parametrize("devices", [5, "two"])
def test_more_than_there_are(pool: DevicePool, devices: object) -> None:
    message = rf"trainer\.devices: expected at most the 4 devices that the sweep has \(0, 1, 2, 3\), got {devices}; "
    with pytest.raises(ConfigError, match=message):
        demand(config(devices), pool)


@pytest.mark.faults
@pytest.mark.parametrize("given", [[], [0, 0], 3])
def test_faulty_pools(given: object) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.devices: expected a list of different ids"):
        pool_for(config(1, pool=given))


def test_visible_devices_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1,2,3")
    with only_visible(("2", "3")):
        assert os.environ[VISIBLE] == "2,3"
    assert os.environ[VISIBLE] == "0,1,2,3"
    monkeypatch.delenv(VISIBLE)
    with only_visible(("2",)):
        assert os.environ[VISIBLE] == "2"
    with only_visible(()):
        assert VISIBLE not in os.environ
