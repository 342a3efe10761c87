from __future__ import annotations

import subprocess
import sys

import pytest

# As a launcher does it: all processes of the group get the signal. This one waits for its worker, as the compiler does.
SIGNALLED = """
import os, signal, time
from torch._inductor import config
from torch._inductor.async_compile import AsyncCompile
from mgie_lit.training.compiling import start_workers

config.compile_threads = 2
seen = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda got, _: seen.append(signal.Signals(got).name))
start_workers()
running = AsyncCompile.process_pool().submit(time.sleep, 5)
time.sleep(1)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    os.killpg(0, number)
running.result(timeout=60)
AsyncCompile.process_pool().submit(time.sleep, 0).result(timeout=60)
print(*seen)
"""


@pytest.mark.slow
def test_signals_to_a_whole_job_leave_the_compilers_processes_alone() -> None:
    command = [sys.executable, "-c", SIGNALLED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True, timeout=170)
    assert done.stdout == "SIGTERM SIGINT SIGUSR1\n", done.stderr
