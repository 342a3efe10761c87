"""CPU seconds of an evaluation, against a script that scores one pair of images at a time.

    python benchmarks/evaluation.py            # 24 targets, 3 systems, 5 seeds
    python benchmarks/evaluation.py --short    # 6 targets; under 3 minutes

Both score L1, CLIP-I and DINO of the same PNG files with the same random weights of ViT-B/32 and ViT-S/16 size. The
script is of the published kind: for every pair it opens both files, and puts both images through both encoders. Ours is
``evaluate`` on the same folders, with ``copy``, intervals and table, without writing images; each system is an
evaluation of its own, and they share features of targets and sources in a folder that begins empty. The two take turns,
a third of the targets at a time. With `s` systems and `k` seeds the script encodes `2 s k` images a target and ours
`s k + 2` (the target and the source, once): at best `(s k + 2) / (2 s k)` of its time, or `(s k + 1) / (2 s k)` without
`copy`; batches may gain a little more.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from PIL import Image

from mgie_lit.evaluation.evaluate import evaluate
from mgie_lit.evaluation.systems import PredictionFolder
from mgie_lit.metrics.encoders import ClipEncoder, DinoEncoder
from mgie_lit.metrics.features import ClipI, Dino
from mgie_lit.metrics.pixel import L1
from mgie_lit.types import EditExample

NUM_SYSTEMS, NUM_SEEDS = 3, 5
BOUND = 0.6
SIDE = 512  # pixels of the images, as of MagicBrush
TOLERANCE = 1e-5


@dataclass
class Targets:
    """A data set of PNG files."""

    folder: Path
    names: list[str]

    def __len__(self) -> int:
        """Number of targets."""
        return len(self.names)

    def __getitem__(self, index: int) -> EditExample:
        """Source and target of one name."""
        name = self.names[index]
        source, target = (
            Image.open(self.folder / kind / f"{name}.png").convert("RGB") for kind in ("source", "target")
        )
        return EditExample(name, source, target, "edit it")

    def sample_id(self, index: int) -> str:
        """The name."""
        return self.names[index]


def write_encoders(folder: Path) -> None:
    """CLIP ViT-B/32 and DINO ViT-S/16 with random weights, and the preprocessing of the published folders."""
    torch.manual_seed(0)
    text = {
        "vocab_size": 10,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    clip = transformers.CLIPConfig(text_config=text, vision_config={"patch_size": 32}, projection_dim=512)  # type: ignore[call-arg]
    transformers.CLIPModel(clip).save_pretrained(folder / "clip")
    transformers.CLIPImageProcessorPil().save_pretrained(folder / "clip")
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=False).save_pretrained(folder / "dino")
    transformers.ViTImageProcessorPil(size={"height": 224, "width": 224}).save_pretrained(folder / "dino")


def write_images(folder: Path, names: list[str]) -> None:
    """Sources, targets, and edits of three systems and five seeds: smooth pictures with some noise."""
    rng = np.random.default_rng(0)
    for name in names:
        coarse = rng.integers(256, size=(12, 12, 3), dtype=np.uint8)
        target = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        kinds = ["source", "target", *(f"system-{system}" for system in range(NUM_SYSTEMS))]
        for kind in kinds:
            for seed in range(1 if kind in {"source", "target"} else NUM_SEEDS):
                noise = 0 if kind == "target" else rng.integers(-20, 21, size=(SIDE, SIDE, 1))
                path = folder / kind / (f"seed-{seed}" if seed else "") / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(target + noise, 0, 255).astype(np.uint8)).save(path, compress_level=1)


class Script:
    """One pair at a time."""

    def __init__(self, folder: Path) -> None:
        self.clip: Any = transformers.CLIPModel.from_pretrained(folder / "clip").eval()
        self.dino: Any = transformers.ViTModel.from_pretrained(folder / "dino", add_pooling_layer=False).eval()
        self.clip_processor: Any = transformers.CLIPImageProcessorPil.from_pretrained(folder / "clip")
        self.dino_processor: Any = transformers.ViTImageProcessorPil.from_pretrained(folder / "dino")

    @torch.no_grad()
    def score(self, made: Path, target: Path) -> dict[str, float]:
        """L1, CLIP-I and DINO of two files."""
        x, y = (Image.open(path).convert("RGB") for path in (made, target))
        x = x.resize(y.size)
        pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in (x, y)]
        clip, dino = [], []
        for image in (x, y):
            seen = self.clip_processor(image, return_tensors="pt")["pixel_values"]
            clip.append(self.clip.get_image_features(pixel_values=seen).pooler_output)
            seen = self.dino_processor(image, return_tensors="pt")["pixel_values"]
            dino.append(self.dino(pixel_values=seen).last_hidden_state[:, 0])
        cosine = torch.nn.functional.cosine_similarity
        return {
            "l1": float(torch.nn.functional.l1_loss(*pixels)),
            "clip_i": float(cosine(*clip)),
            "dino": float(cosine(*dino)),
        }


def run_script(script: Script, folder: Path, names: list[str]) -> pd.DataFrame:
    """Scores of all edits of some targets."""
    rows = []
    for system in range(NUM_SYSTEMS):
        for seed in range(NUM_SEEDS):
            made = folder / f"system-{system}" / (f"seed-{seed}" if seed else "")
            rows += [
                {"system": system, "seed": seed, "sample_id": name}
                | script.score(made / f"{name}.png", folder / "target" / f"{name}.png")
                for name in names
            ]
    return pd.DataFrame(rows)


def run_ours(folder: Path, names: list[str], out_dir: Path) -> pd.DataFrame:
    """The same by three evaluations with metrics of their own, as three commands have them."""
    tables = []
    for system in range(NUM_SYSTEMS):
        cache = folder / "features"
        metrics = {
            "l1": L1(),
            "clip_i": ClipI(ClipEncoder(folder / "clip"), cache=cache),
            "dino": Dino(DinoEncoder(folder / "dino"), cache=cache),
        }
        made = PredictionFolder(folder / f"system-{system}", seeds=range(NUM_SEEDS), allow_missing=True)
        place = out_dir / f"{names[0]}-{system}"
        evaluate(
            made,
            Targets(folder, names),
            metrics,
            out_dir=place,
            seeds=range(NUM_SEEDS),
            batch_size=8,
            save_images=False,
        )
        tables.append(pd.read_parquet(place / "per_sample.parquet").assign(system=system))
    return pd.concat(tables)


def compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    """Largest difference of two tables of scores."""
    keys = ["system", "seed", "sample_id"]
    one, other = (table.sort_values(keys).reset_index(drop=True) for table in (ours, theirs))
    assert one[keys].equals(other[keys])
    return max(float((one[name] - other[name]).abs().max()) for name in ("l1", "clip_i", "dino"))


def main() -> None:
    """Run both, print their CPU seconds and the bound, and fail where it is missed or numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="6 targets instead of 24")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    names = [f"t{index:02d}" for index in range(6 if options.short else 24)]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_encoders(folder)
        write_images(folder, names)
        script = Script(folder)
        warm = ClipEncoder(folder / "clip"), DinoEncoder(folder / "dino")  # both sides load before the clock starts
        for encoder in warm:
            encoder.identity()
        run_script(script, folder, names[:1])
        cpu = {"ours": 0.0, "script": 0.0}
        ratios: list[float] = []
        difference = 0.0
        size = len(names) // 3
        for first in range(0, len(names), size):
            part = names[first : first + size]
            began = time.process_time()
            theirs = run_script(script, folder, part)
            middle = time.process_time()
            ours = run_ours(folder, part, folder / "out")
            end = time.process_time()
            cpu["script"] += middle - began
            cpu["ours"] += end - middle
            ratios.append((end - middle) / (middle - began))
            difference = max(difference, compare(ours, theirs))
            print(f"targets {first + 1}-{first + len(part)}: ours / script = {ratios[-1]:.3f}", flush=True)
    edits = NUM_SYSTEMS * NUM_SEEDS
    result = {
        "targets": len(names),
        "ratio": cpu["ours"] / cpu["script"],
        "ratios": ratios,
        "cpu_s": cpu,
        "best_possible": {"with_copy": (edits + 2) / (2 * edits), "without": (edits + 1) / (2 * edits)},
        "largest_difference": difference,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    best = result["best_possible"]
    print(
        f"CPU seconds: ours {cpu['ours']:.1f}, script {cpu['script']:.1f}, ratio {result['ratio']:.3f} (bound {BOUND})"
    )
    print(f"fewest encodings: {best['with_copy']:.3f} with copy, {best['without']:.3f} without")  # type: ignore[index]
    print(f"largest difference of a score: {difference:.1e} (bound {TOLERANCE})")
    if cpu["ours"] > BOUND * cpu["script"] or difference > TOLERANCE:
        raise SystemExit("missed")


if __name__ == "__main__":
    main()
