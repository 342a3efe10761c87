"""MagicBrush's published evaluation, written down again plainly, against ``metrics=magicbrush`` through the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from PIL import Image

from mgie_lit.testing.datasets import write_magicbrush

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
VIT = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 3}


def write_clip(folder: Path, side: int) -> None:
    """A CLIP of random weights that reads letters."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    text = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 28, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(3)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=VIT | {"image_size": side, "patch_size": 32}, projection_dim=12
    )
    transformers.CLIPModel(config).save_pretrained(folder)


def write_dino(folder: Path) -> None:
    torch.manual_seed(4)
    config = transformers.ViTConfig(**VIT, image_size=224, patch_size=16)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data set, encoders, and outputs of a made-up editor in the published layout, of other sizes than the targets."""
    root = tmp_path_factory.mktemp("magicbrush")
    write_magicbrush(root / "data", splits=("dev",))
    write_clip(root / "clip", 224)
    write_dino(root / "dino")
    rng = np.random.default_rng(8)
    for session, turns in json.loads((root / "data/dev/edit_sessions.json").read_text()).items():
        for number, turn in enumerate(turns, 1):
            target = Image.open(root / "data/dev/images" / session / turn["output"]).convert("RGB")
            names = [f"{session}_1"] if number == 1 else [f"{session}_{kind}_{number}" for kind in ("inde", "iter")]
            for name in names:
                noise = rng.integers(-60, 61, size=(*target.size[::-1], 3))
                pixels = np.clip(np.asarray(target, dtype=np.int64) + noise, 0, 255).astype(np.uint8)
                path = root / "made" / session / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).resize((75, 58), Image.Resampling.BILINEAR).save(path)
    return root


def shorter_side(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    new = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    return image.resize(new, Image.Resampling.BICUBIC)


def centre(image: Image.Image, side: int) -> Image.Image:
    left, top = round((image.width - side) / 2.0), round((image.height - side) / 2.0)
    return image.crop((left, top, left + side, top + side))


def tensor(image: Image.Image, mean: list[float], std: list[float]) -> torch.Tensor:
    pixels = (np.asarray(image, dtype=np.float64) / 255.0 - mean) / std
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float()


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double())[0])


class Published:
    """One image at a time, both images through every model every time."""

    def __init__(self, world: Path) -> None:
        self.clip: Any = transformers.CLIPModel.from_pretrained(world / "clip").eval()
        self.dino: Any = transformers.ViTModel.from_pretrained(world / "dino", add_pooling_layer=False).eval()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(world / "clip")

    def clip_image(self, image: Image.Image) -> torch.Tensor:
        pixels = tensor(centre(shorter_side(image, 224), 224), CLIP_MEAN, CLIP_STD)
        return self.clip.visual_projection(self.clip.vision_model(pixels).pooler_output)

    def clip_text(self, text: str) -> torch.Tensor:
        ids = torch.tensor([self.tokenizer(text)["input_ids"]])
        return self.clip.text_projection(self.clip.text_model(ids).pooler_output)

    def dino_image(self, image: Image.Image) -> torch.Tensor:
        pixels = tensor(centre(shorter_side(image, 256), 224), IMAGENET_MEAN, IMAGENET_STD)
        return self.dino(pixels).last_hidden_state[:, 0]

    @torch.no_grad()
    def scores(self, made: Path, target: Path, caption: str) -> dict[str, float]:
        truth = Image.open(target).convert("RGB")
        edited = Image.open(made).convert("RGB").resize(truth.size)  # PIL's default filter
        x, y = (np.asarray(image, dtype=np.float64) / 255.0 for image in (edited, truth))
        words = self.clip_text(caption)
        return {
            "l1": float(np.abs(x - y).mean()),
            "l2": float(((x - y) ** 2).mean()),
            "clip_i": cosine(self.clip_image(edited), self.clip_image(truth)),
            "dino": cosine(self.dino_image(edited), self.dino_image(truth)),
            "clip_t": cosine(self.clip_image(edited), words),
            "clip_t_oracle": cosine(self.clip_image(truth), words),
        }


def published_rows(world: Path, kind: str) -> pd.DataFrame:
    """``all_turn``: all turns from their true sources. ``final_turn``: the last image of each chain."""
    script = Published(world)
    captions = json.loads((world / "data/dev/local_descriptions.json").read_text())
    rows = []
    for session, turns in json.loads((world / "data/dev/edit_sessions.json").read_text()).items():
        numbers = range(1, len(turns) + 1) if kind == "all_turn" else [len(turns)]
        for number in numbers:
            between = "" if number == 1 else {"all_turn": "inde_", "final_turn": "iter_"}[kind]
            made = world / "made" / session / f"{session}_{between}{number}.png"
            output = turns[number - 1]["output"]
            rows.append(script.scores(made, world / "data/dev/images" / session / output, captions[session][output]))
    return pd.DataFrame(rows)


def evaluate(world: Path, tmp_path: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mgie_lit.cli.main", "eval", f"predictions={world / 'made'}"]
    command += ["predictions_layout=magicbrush", "data=magicbrush", f"data.root={world / 'data'}", "split=val"]
    command += [f"encoders.clip={world / 'clip'}", f"encoders.dino={world / 'dino'}", *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize(("turns", "kind"), [("given", "all_turn"), ("chain", "final_turn")])
def test_protocol_equals_the_published_rules(world: Path, tmp_path: Path, turns: str, kind: str) -> None:
    done = evaluate(world, tmp_path, "metrics=magicbrush", f"turns={turns}", "paths.run_dir=out", "num_processes=2")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    expected = published_rows(world, kind)
    for name in expected:
        assert written["metrics"][name]["mean"] == pytest.approx(expected[name].mean(), abs=1e-5), name
        assert written["turns"][kind][name] == written["metrics"][name]["mean"]
    assert written["turns"][kind]["n"] == written["metrics"]["l1"]["n"] == len(expected)
    table = pd.read_parquet(tmp_path / "out/per_sample.parquet")
    for name in expected:
        assert table[name].tolist() == pytest.approx(expected[name].tolist(), abs=1e-5)
    described = written["protocol"]["metrics"]["dino"]["encoder"]["preprocessing"]
    assert described["size"] == {"shortest_edge": 256}
    assert described["crop_size"] == {"height": 224, "width": 224}
    assert written["protocol"]["data"]["captions"] == "local"


@pytest.mark.slow
def test_what_is_missing_ends_with_status_2_unless_allowed(world: Path, tmp_path: Path) -> None:
    made = sorted((world / "made").rglob("*_inde_2.png"))[0]
    hidden = made.rename(tmp_path / made.name)
    try:
        refused = evaluate(world, tmp_path, "paths.run_dir=refused")
        assert refused.returncode == 2
        assert f"1 missing: {made.parent.name}/{made.stem}" in refused.stderr
        assert not (tmp_path / "refused").exists()
        allowed = evaluate(world, tmp_path, "allow_missing=true", "paths.run_dir=allowed")
        assert allowed.returncode == 0, allowed.stderr
        written = json.loads((tmp_path / "allowed/metrics.json").read_text())
        assert written["metrics"]["l1"]["n"] == written["protocol"]["num_samples"] - 1
        assert written["protocol"]["num_without_edit"] == 1
    finally:
        hidden.rename(made)
