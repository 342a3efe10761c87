"""Many clients at once for a while: no crash, no lost request, memory flat."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mgie_lit.testing.random_data import random_image

ROOT = Path(__file__).resolve().parents[2]
NUM_CLIENTS = 20
SECONDS = 120
WARM_SECONDS = 30  # in which caches fill
INSTRUCTIONS = {
    "make it brighter": "the whole photo becomes brighter and lighter",
    "make it black and white": "all color is gone and only gray tones are left",
}
SIZES = ((320, 240), (200, 300), (512, 512))
MAX_GROWTH_MB = 30

gradio_client = pytest.importorskip("gradio_client")


class Client(threading.Thread):
    """Asks for one edit after another and looks at what comes back."""

    def __init__(self, number: int, url: str, folder: Path, until: float) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.folder, self.until = number, url, folder, until
        self.num_sent = self.num_right = 0
        self.waits: list[float] = []
        self.faults: list[str] = []

    def run(self) -> None:
        try:
            options = {"verbose": False, "analytics_enabled": False, "download_files": self.folder}
            client = gradio_client.Client(self.url, **options)
            size = SIZES[self.number % len(SIZES)]
            path = self.folder / f"{self.number}.png"
            random_image(*size, seed=self.number).save(path)
            while time.monotonic() < self.until:
                instruction = list(INSTRUCTIONS)[self.num_sent % len(INSTRUCTIONS)]
                self.num_sent += 1
                start = time.monotonic()
                edited, words = client.predict(
                    gradio_client.handle_file(path), instruction, seed=self.num_sent, api_name="/edit"
                )
                self.waits.append(time.monotonic() - start)
                with Image.open(edited) as image:
                    assert (image.size, words) == (size, INSTRUCTIONS[instruction])
                self.num_right += 1
        except Exception as error:
            self.faults.append(f"client {self.number}: {error!r}")


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_twenty_clients_for_two_minutes(
    tmp_path: Path, free_port: int, record_property: Callable[[str, object], None]
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "mgie_lit.cli.main", "demo", "--port", str(free_port)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            start = time.monotonic()
            clients = [Client(number, url, tmp_path, start + SECONDS) for number in range(NUM_CLIENTS)]
            for client in clients:
                client.start()
            memory: list[tuple[float, float]] = []
            while any(client.is_alive() for client in clients) and time.monotonic() < start + 2 * SECONDS:
                memory.append((time.monotonic() - start, memory_mb(process.pid)))
                time.sleep(1)
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert [fault for client in clients for fault in client.faults] == []
    sent, right = sum(client.num_sent for client in clients), sum(client.num_right for client in clients)
    assert sent == right >= 2 * NUM_CLIENTS
    middle = (WARM_SECONDS + SECONDS) / 2
    early = statistics.median(value for at, value in memory if WARM_SECONDS <= at < middle)
    late = statistics.median(value for at, value in memory if at >= middle)
    waits = sorted(wait for client in clients for wait in client.waits)
    record_property(
        "summary",
        f"demo: {NUM_CLIENTS} clients, {memory[-1][0]:.0f} s: {right} of {sent} edits came back right; wait median "
        f"{statistics.median(waits):.1f} s, longest {waits[-1]:.1f} s; memory {memory[0][1]:.0f} MB at the start, "
        f"{early:.0f} MB from {WARM_SECONDS} to {middle:.0f} s, {late:.0f} MB after",
    )
    assert late - early < MAX_GROWTH_MB
    assert process.returncode == 0
