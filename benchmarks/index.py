"""Time and memory of an index of 300,000 prompts: built, killed and gone on with, and opened by several workers.

    python benchmarks/index.py --json index.json

Prompts are written in the layout of IPr2Pr's authors, with their words but without images: neither building nor
opening looks for one. What is opened lies in another folder, with ``seeds.json`` and the index alone. Memory is what a
process holds alone (``Private_*`` of ``/proc/self/smaps_rollup``) after it read rows all over the training split, less
what it held before it opened the data set, while all workers are at it together.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from mgie_lit.data.readers.index import FOLDER
from mgie_lit.data.readers.ipr2pr import IPr2Pr

MAX_SECONDS, MAX_MIB = 5.0, 300.0  # to open it, and unique memory that it may add to a worker
STEP = 97  # every so many rows one is read
KILLED_AFTER = 20  # parts of the index
_BUILD = "import sys; from mgie_lit.data.readers.ipr2pr import IPr2Pr; print(len(IPr2Pr('train', root=sys.argv[1])))"


def write_prompts(root: Path, num_prompts: int) -> list[tuple[str, list[str]]]:
    """A folder with a ``prompt.json`` for each prompt, and ``seeds.json``; gives what stands in it."""
    seeds = []
    for number in range(num_prompts):
        name = f"{number:07d}"
        (root / name).mkdir()
        words = {
            "edit": f"make number {name} a painting by an old master",
            "output": f"an old painting of {name}, signed",
        }
        (root / name / "prompt.json").write_text(json.dumps(words))
        seeds.append((name, [str(7919 * number + pair) for pair in range(1 + number % 4)]))
    (root / "seeds.json").write_text(json.dumps(seeds))
    return seeds


def kill_build(root: Path) -> int:
    """Begin to build, and kill it after some parts; gives how many are there then."""
    process = subprocess.Popen([sys.executable, "-c", _BUILD, str(root)], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(parts_of(root)) < KILLED_AFTER:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(parts_of(root))


def parts_of(root: Path) -> dict[str, int]:
    """Finished parts of the index, with the time at which each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (root / FOLDER).glob("*.parts/[0-9]*.arrow")}


def build(root: Path) -> dict[str, float]:
    """Build to the end; its CPU and wall seconds, its size, and how many examples training has."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _BUILD, str(root)], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (index,) = (root / FOLDER).glob("*.arrow")
    return {
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.perf_counter() - start,
        "mib": index.stat().st_size / 2**20,
        "train_examples": int(done.stdout),
    }


def open_in_workers(root: Path, num_workers: int) -> list[dict[str, float]]:
    """Each worker opens the data set and reads rows; what it took, one record a worker."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(num_workers), context.Queue()
    workers = [context.Process(target=_work, args=(root, barrier, results)) for _ in range(num_workers)]
    for worker in workers:
        worker.start()
    records = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    return records


def _work(root: Path, barrier: Barrier, results: Any) -> None:  # noqa: ANN401 - a queue
    memory, start = _unique_mib(), time.perf_counter()
    dataset = IPr2Pr("train", root=root)
    seconds = time.perf_counter() - start
    for index in range(0, len(dataset), STEP):
        dataset.row(index)
    barrier.wait()  # all have read before one measures
    added = _unique_mib() - memory
    barrier.wait()
    results.put({"seconds": seconds, "unique_mib": added, "examples": len(dataset)})


def _unique_mib() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def measure(root: Path, num_prompts: int, workers: list[int]) -> dict[str, Any]:
    """All of it, in a folder that is empty; raises AssertionError where an aim is missed."""
    seeds = write_prompts(root, num_prompts)
    num_killed = kill_build(root)
    kept = parts_of(root)
    built = build(root)
    expected = sum(len(numbers) for _, numbers in seeds[: 90 * num_prompts // 100])
    assert built["train_examples"] == expected, (built["train_examples"], expected)
    alone = root / "alone"
    alone.mkdir()
    for name in ("seeds.json", FOLDER):
        (root / name).rename(alone / name)
    opened = {count: open_in_workers(alone, count) for count in workers}
    for records in opened.values():
        assert all(record["examples"] == expected for record in records)
        assert all(record["seconds"] < MAX_SECONDS and record["unique_mib"] < MAX_MIB for record in records), records
    return {
        "prompts": num_prompts,
        "killed_after_parts": num_killed,
        "kept_parts": len(kept),
        "build": built,
        "workers": opened,
    }


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=300_000, help="number of prompts")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="workers that open it at once")
    parser.add_argument("--dir", type=Path, help="where to write the prompts for a while, e.g. /dev/shm")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        found = measure(Path(folder), options.prompts, options.workers)
    built = found["build"]
    print(f"killed when {found['killed_after_parts']} parts were there, then built to the end:")
    print(f"  {built['cpu_s']:.0f} CPU s, {built['mib']:.0f} MiB, {built['train_examples']} training examples")
    print("workers  seconds to open, the slowest  unique MiB added, the most")
    for count, records in found["workers"].items():
        slowest, most = (max(record[key] for record in records) for key in ("seconds", "unique_mib"))
        print(f"{count:7d}  {slowest:28.2f}  {most:26.0f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
