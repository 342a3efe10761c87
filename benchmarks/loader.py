"""Examples per CPU second of our loader, beside a plain implementation of what the released code does.

    python benchmarks/loader.py --json loader.json

Both make the same tensors of the same pixels: pairs of 512 px JPEGs, to 256 px for the autoencoder in the released
code's two steps, and to 224 px for the vision tower. Each runs in one loader process; all take turns, and the ratio of
their CPU times (of this process and its children) is printed, which depends little on the machine. In the same turns
stands what can not be saved: decoding and resampling alone, in a loader process that hands nothing over. Photographs
are those of scikit-learn.
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
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, Dataset, Subset
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.data.collate import CutDataset, EditCollator
from mgie_lit.data.order import order_of
from mgie_lit.data.readers.held_files import HeldFiles
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.shards import Shards, parse_place
from mgie_lit.data.resampling import PILLOW, TORCH, resize
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.data.windows import WindowedLoader
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.types import EditBatch

SIDE, RESOLUTION, VISION_SIZE, BATCH_SIZE = 512, 256, 224, 8
RULES: dict[str, Any] = {"released": TwoStepTransform, "fixed": PairTransform}
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


class Pictures(EditCollator):
    """Batches of pictures without words."""

    def __init__(self, processor: Any, transform: PairTransform | TwoStepTransform) -> None:  # noqa: ANN401
        super().__init__(None, processor, transform)  # type: ignore[arg-type]

    def assemble(self, examples: Any, **images: Any) -> EditBatch:  # noqa: ANN401
        """Names and pictures."""
        names = [example.sample_id for example in examples]
        words: Any = dict.fromkeys(("input_ids", "attention_mask", "labels", "visual_token_start"), torch.empty(0))
        return EditBatch(names, names, names, **images, **words)


class Alone(Dataset[int]):
    """Decoding and resampling of pairs that are in memory, and nothing else."""

    def __init__(self, pairs: list[list[bytes]], seen_from: int, resampler: str) -> None:
        self.pairs, self.seen_from, self.resampler = pairs, seen_from, resampler

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> int:
        images: list[Image.Image] = [Image.open(io.BytesIO(data)) for data in self.pairs[index]]
        for image in images:
            image.load()
        small = [resize(image, (RESOLUTION, RESOLUTION), resampler=self.resampler) for image in images]
        seen = (images if self.seen_from == SIDE else small)[0]
        resize(seen, (VISION_SIZE, VISION_SIZE), resampler=self.resampler)
        return index


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


def measure(folder: Path, count: int, rounds: int, passes: int) -> dict[str, Any]:
    """All ratios, bounds and differences of pixels."""
    write_data(folder, count)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": VISION_SIZE}, crop_size={"height": VISION_SIZE, "width": VISION_SIZE}
    )
    plain = PlainDataset(folder / "packed", processor)
    readers: dict[str, Any] = {
        "packed tsv": IPr2Pr("train", root=folder / "packed"),
        "files": ImageFolder("train", root=folder / "folder"),
        "shards": Shards("train", root=folder / "shards", order="shuffled"),
        "shards in blocks": Shards("train", root=folder / "shards", block_size=BATCH_SIZE, window=2),
    }
    _check(plain, readers, Pictures(processor, TwoStepTransform(RESOLUTION)))
    # Some data sets keep back examples for validation: all get as many.
    used = min(len(dataset) for dataset in readers.values()) // BATCH_SIZE * BATCH_SIZE
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, work in _works(plain, readers, processor, used, passes).items():
            value = work()
            if number:  # the first round warms up
                seconds.setdefault(name, []).append(value)
    return {
        "ms_per_pair": {name: 1000 * statistics.median(values) / used / passes for name, values in seconds.items()},
        "ratio": {
            name: _spread([first / second for first, second in zip(seconds["plain"], values, strict=True)])
            for name, values in seconds.items()
        },
        "read_ms_per_pair": _reads(readers["shards in blocks"], rounds),
        "torch_minus_pillow": _differences(readers["files"]),
    }


def _works(
    plain: PlainDataset,
    readers: dict[str, Any],
    processor: Any,  # noqa: ANN401
    used: int,
    passes: int,
) -> dict[str, Callable[[], float]]:
    """What takes turns, by name: reader, rules, resampler."""
    works: dict[str, Callable[[], float]] = {"plain": lambda: _drained(plain, list(range(used)) * passes)}
    rows = [(name, "released", PILLOW) for name in readers]
    rows += [("shards in blocks", *kind) for kind in (("released", TORCH), ("fixed", PILLOW), ("fixed", TORCH))]
    for name, rules, resampler in rows:
        order = [index for index in order_of(readers[name], len(readers[name]), seed=0) if index < used]
        pictures = Pictures(processor, RULES[rules](RESOLUTION, resampler))
        dataset = CutDataset(readers[name], pictures)
        works[f"{name}, {rules}, {resampler}"] = partial(_drained, dataset, order * passes, pictures)
    for rules, resampler in product(RULES, (PILLOW, TORCH)):
        alone = Alone(_encoded(plain)[:used], SIDE if rules == "released" else RESOLUTION, resampler)
        works[f"alone, {rules}, {resampler}"] = partial(_drained, alone, list(range(used)) * passes)
    return works


def _reads(shards: Shards, rounds: int) -> dict[str, float]:
    """CPU milliseconds for the bytes of a pair, with the file kept open and with one opened for each picture."""
    rows = [shards.row(index) for index in range(len(shards))]
    places = [parse_place(str(place)) for row in rows for place in (row.source, row.target)]
    held = HeldFiles()

    def kept() -> None:
        for name, offset, size in places:
            held.read(shards.root / name, offset, size)

    def anew() -> None:
        for name, offset, size in places:
            with (shards.root / name).open("rb", buffering=0) as file:
                file.seek(offset)
                file.read(size)

    seconds = [(cpu_seconds(kept), cpu_seconds(anew)) for _ in range(rounds)]
    return {
        name: 1000 * statistics.median(values) / len(rows)
        for name, values in zip(("kept open", "opened anew"), zip(*seconds, strict=True), strict=True)
    }


def _check(plain: PlainDataset, readers: dict[str, Any], pictures: Pictures) -> None:
    """All readers give the tensors of the plain loader."""
    ids = {task[0]["input"].removesuffix("_0"): index for index, task in enumerate(plain.tasks)}
    for dataset in readers.values():
        made = pictures.images([dataset[3]])
        for name, value in plain[ids[dataset.sample_id(3)]].items():
            got: Any = made[name]
            # ml-mgie scales to [-1, 1] in float64: a bit more exact than float32 in the last place.
            assert torch.equal(got[0], value) if name == "mllm_pixels" else (got[0] - value).abs().max() < 1e-6


def _drained(dataset: Any, indices: list[int], pictures: Pictures | None = None) -> float:  # noqa: ANN401
    """CPU seconds of a loader with one process that goes through some examples."""
    ours = {} if pictures is None else {"collate_fn": pictures.collect, "finish": pictures.finish}
    kind: Any = DataLoader if pictures is None else WindowedLoader
    loader = kind(Subset(dataset, indices), BATCH_SIZE, num_workers=1, **ours)
    return cpu_seconds(lambda: sum(1 for _ in loader))


def _encoded(plain: PlainDataset) -> list[list[bytes]]:
    """The JPEGs of all pairs."""
    lines = plain.path.read_text().splitlines()
    return [[base64.b64decode(text) for text in line.split("\t")] for line in lines]


def _differences(dataset: Any) -> dict[str, dict[str, float]]:  # noqa: ANN401
    """What torch's resampling changes, in levels of 255."""
    images = [dataset[index].source for index in range(len(dataset))]
    found = {}
    for size in (RESOLUTION, VISION_SIZE):
        off = [_levels(image, size, TORCH) - _levels(image, size, PILLOW) for image in images]
        found[f"{SIDE} to {size} px"] = {
            "max": max(float(np.abs(values).max()) for values in off),
            "mean": float(np.mean([np.abs(values).mean() for values in off])),
        }
    return found


def _levels(image: Image.Image, size: int, resampler: str) -> np.ndarray:
    return np.asarray(resize(image, (size, size), resampler=resampler)).astype(int)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=40, help="pairs of 512 px; default: 40")
    parser.add_argument("--passes", type=int, default=5, help="times that a loader goes through them; default: 5")
    parser.add_argument("--rounds", type=int, default=7, help="times that all take turns; default: 7")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.examples, arguments.rounds, arguments.passes)
    for name, ratio in results["ratio"].items():
        spent = results["ms_per_pair"][name]
        print(f"{name}: {spent:.2f} ms a pair, {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})")
    for name, value in results["read_ms_per_pair"].items():
        print(f"reading from a shard, {name}: {value:.3f} ms a pair")
    for name, off in results["torch_minus_pillow"].items():
        print(f"torch for pillow, {name}: at most {off['max']:.0f} of 255, {off['mean']:.1e} on average")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
