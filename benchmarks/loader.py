"""Examples per CPU second of our loader, beside a plain implementation of what the released code does.

    python benchmarks/loader.py --json loader.json

Both make the same tensors of the same pixels: pairs of 512 px JPEGs, to 256 px for the autoencoder in the released
code's two steps, and to 224 px for the vision tower. Each runs in one loader process; the plain loader and ours take
turns, and the ratio of their CPU times (of this process and its children) is printed, which depends little on the
machine. Photographs are those of scikit-learn.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.data.collate import EditCollator
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.shards import Shards
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.prepare.shards.writing import write_shards

SIDE, RESOLUTION, BATCH_SIZE = 512, 256, 8
Tensors = dict[str, torch.Tensor]


class PlainDataset(Dataset[Tensors]):
    """The released way: the file of images is opened for every example, each picture goes through all steps alone."""

    def __init__(self, folder: Path, processor: Any) -> None:  # noqa: ANN401
        self.path = folder / "ipr2pr.tsv"
        self.tasks = pickle.loads((folder / "ipr2pr.pkl").read_bytes())["task"]
        self.processor = processor

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Tensors:
        file = self.path.open()
        file.seek(self.tasks[index][0]["lineidx"])
        source, target = (_plain_square(text) for text in file.readline().strip().split("\t"))
        pixels = self.processor.preprocess(source, return_tensors="pt")["pixel_values"][0]
        return {"source": _plain_tensor(source), "target": _plain_tensor(target), "mllm_pixels": pixels}


def _plain_square(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.crop((left, top, left + edge, top + edge)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _plain_tensor(image: Image.Image) -> torch.Tensor:
    small = np.array(image.resize((RESOLUTION, RESOLUTION), Image.Resampling.BICUBIC))
    return torch.from_numpy(2 * (small / 255) - 1).permute(2, 0, 1).to(torch.float32)


class Images:
    """The pictures of a batch, without its words."""

    def __init__(self, collator: EditCollator) -> None:
        self.collator = collator

    def __call__(self, examples: list[Any]) -> dict[str, torch.Tensor | None]:
        """``source``, ``target`` and ``mllm_pixels`` of some examples."""
        return self.collator.images(examples)


def write_data(folder: Path, count: int) -> None:
    """The same JPEGs as single files, in base64 as the released code wants them, and as shards."""
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    rng = np.random.default_rng(0)
    tasks, rows = [], []
    for kind in ("packed", "folder"):
        (folder / kind).mkdir()
    with (folder / "packed" / "ipr2pr.tsv").open("wb") as file:
        for index in range(count):
            photo, side = photos[index % len(photos)], int(rng.integers(250, 420))
            left, top = int(rng.integers(640 - side)), int(rng.integers(427 - side))
            source = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
            names = [f"{index}_source.jpg", f"{index}_target.jpg"]
            for image, name in zip((source, source.point(lambda value: value // 2)), names, strict=True):
                image.save(folder / "folder" / name, quality=95)
            key = {"input": f"{index:05d}_1_0", "answer": f"{index:05d}_1_1", "instruction": "make it darker"}
            tasks.append([{**key, "lineidx": file.tell()}])
            contents = [base64.b64encode((folder / "folder" / name).read_bytes()) for name in names]
            file.write(b"\t".join(contents) + b"\n")
            rows.append({"source_file_name": names[0], "target_file_name": names[1], "id": f"{index:05d}_1"})
    (folder / "packed" / "ipr2pr.pkl").write_bytes(pickle.dumps({"task": tasks}))
    lines = [json.dumps({**row, "split": "train", "instruction": "make it darker"}) for row in rows]
    (folder / "folder" / "metadata.jsonl").write_text("\n".join(lines))
    files = ImageFolder("train", root=folder / "folder")
    write_shards(folder / "shards", {"train": files}, {}, max_bytes=2**26)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a call, that of processes which end meanwhile included."""
    before = _cpu()
    work()
    return _cpu() - before


def _cpu() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def parts(dataset: PlainDataset, processor: Any, count: int) -> dict[str, float]:  # noqa: ANN401
    """CPU milliseconds of the steps of one pair."""
    tasks = [task[0]["lineidx"] for task in dataset.tasks[:count]]
    with dataset.path.open("rb") as file:
        lines = [(file.seek(offset), file.readline())[1] for offset in tasks]
    encoded = [base64.b64decode(part) for line in lines for part in line.split(b"\t")]
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in encoded]
    steps = {
        "read and base64": lambda: [base64.b64decode(part) for line in lines for part in line.split(b"\t")],
        "JPEG decoding": lambda: [Image.open(io.BytesIO(data)).convert("RGB") for data in encoded],
        "JPEG decoding at half scale": lambda: [_draft(data) for data in encoded],
        "512 to 256 px": lambda: [image.resize((256, 256), Image.Resampling.BICUBIC) for image in images],
        "CLIP's processor": lambda: [processor(image, return_tensors="pt") for image in images[::2]],
        "512 to 224 px, part of it": lambda: [i.resize((224, 224), Image.Resampling.BICUBIC) for i in images[::2]],
    }
    return {name: 1000 * cpu_seconds(work) / len(lines) for name, work in steps.items()}


def _draft(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.draft(None, (RESOLUTION, RESOLUTION))
    return image.convert("RGB")


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """All ratios and parts."""
    write_data(folder, count)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    plain = PlainDataset(folder / "packed", processor)
    released = Images(EditCollator(None, processor, TwoStepTransform(RESOLUTION)))  # type: ignore[arg-type]
    fixed = Images(EditCollator(None, processor, PairTransform(RESOLUTION)))  # type: ignore[arg-type]
    packed = IPr2Pr("train", root=folder / "packed")
    files = ImageFolder("train", root=folder / "folder")
    shards = Shards("train", root=folder / "shards")
    ours = {
        "packed tsv, released rules": (packed, released),
        "files, released rules": (files, released),
        "shards, released rules": (shards, released),
        "shards, fixed rules": (shards, fixed),
    }
    ids = {task[0]["input"].removesuffix("_0"): index for index, task in enumerate(plain.tasks)}
    for dataset in (packed, files, shards):
        expected = plain[ids[dataset.sample_id(3)]]
        made = released([dataset[3]])
        assert all((made[name][0] - value).abs().max() < 1e-6 for name, value in expected.items())
    # Some data sets keep back examples for validation: all get as many.
    used = min(len(dataset) for dataset, _ in ours.values()) // BATCH_SIZE * BATCH_SIZE

    def run(dataset: Any, collate: Any = None) -> float:  # noqa: ANN401
        some = torch.utils.data.Subset(dataset, range(used))
        loader = DataLoader(some, BATCH_SIZE, num_workers=1, collate_fn=collate)
        return cpu_seconds(lambda: sum(1 for _ in loader))

    ratios: dict[str, list[float]] = {name: [] for name in ours}
    plain_seconds: list[float] = []
    for number in range(rounds + 1):
        seconds = run(plain)
        times = {name: run(*pair) for name, pair in ours.items()}
        if number:  # the first round warms up
            plain_seconds.append(seconds)
            for name, value in times.items():
                ratios[name].append(seconds / value)
    return {
        "examples_per_cpu_second": used / statistics.median(plain_seconds),
        "ratio": {name: _spread(values) for name, values in ratios.items()},
        "parts_ms_per_pair": parts(plain, processor, min(count, 32)),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=72, help="pairs of 512 px; default: 72")
    parser.add_argument("--rounds", type=int, default=7, help="times that all take turns; default: 7")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.examples, arguments.rounds)
    print(f"plain: {results['examples_per_cpu_second']:.1f} examples per CPU second")
    for name, ratio in results["ratio"].items():
        print(f"{name}: {ratio['median']:.2f} times as many ({ratio['low']:.2f} to {ratio['high']:.2f})")
    for name, value in results["parts_ms_per_pair"].items():
        print(f"  {name}: {value:.2f} ms a pair")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
