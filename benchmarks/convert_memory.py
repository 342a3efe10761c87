"""Peak memory of ``mgie convert`` on generated folders, beside what it may be.

Every conversion runs in a process of its own. What counts is the peak resident memory above that after imports (mapped
pages of the files included); it may be 1.3 times the files that are open at once, two for a delta, plus 200 MB. Exit
status 1 if one is over.

    python benchmarks/convert_memory.py [--layers 12] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

MB = 1e6
FACTOR, ALLOWANCE = 1.3, 200 * MB  # of the open files, and beyond
NUM_SHARDS = 3
WIDTH, FEEDFORWARD, ROWS, BASE_ROWS = 1024, 2816, 32011, 32000
LANGUAGE = {"hidden_size": WIDTH, "intermediate_size": FEEDFORWARD, "num_attention_heads": 16, "vocab_size": ROWS}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "image_size": 56,
    "patch_size": 14,
}
UNET = {"in_channels": 8, "block_out_channels": [320, 512], "cross_attention_dim": 768, "layers_per_block": 2}
UNET |= {"down_block_types": ["CrossAttnDownBlock2D"] * 2, "up_block_types": ["CrossAttnUpBlock2D"] * 2}


@dataclass(frozen=True)
class Case:
    """One conversion: flags, and the sources of which one file each is open at a time."""

    name: str
    source: str
    kind: str
    target: str
    options: dict[str, str]
    opened: tuple[str, ...]


CASES = (
    Case("llava, 3 .bin", "llava-bin", "llava", "export", {}, ("llava-bin",)),
    Case("llava, 3 .safetensors", "llava-st", "llava", "export", {}, ("llava-st",)),
    Case("delta and base, 3 .bin each", "delta", "delta", "export", {"base": "base"}, ("delta", "base")),
    Case(
        "apple on llava, 3 .bin",
        "apple",
        "apple",
        "export",
        {"llava": "llava-bin", "diffusion": "sd15-wide"},
        ("apple",),
    ),
    Case("sd15 to diffusers, .bin", "sd15", "sd15", "diffusers", {}, ("sd15",)),
    Case("export to apple", "apple on llava, 3 .bin", "run", "apple", {"dtype": "half"}, ("apple on llava, 3 .bin",)),
)


@dataclass(frozen=True)
class Row:
    """What one conversion took."""

    name: str
    open_mb: float
    limit_mb: float
    peak_mb: float
    seconds: float

    @property
    def is_within(self) -> bool:
        """Whether the peak is allowed."""
        return self.peak_mb <= self.limit_mb


def main() -> None:
    """Generate, convert, print the table; exit 1 if a conversion takes too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12, help="LLaMA layers a shard, 26 MB each; default: 12")
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        _convert(json.loads(arguments.child))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = list(_measure(Path(folder), arguments.layers))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([{**asdict(row), "ok": row.is_within} for row in rows], indent=2))
    if not all(row.is_within for row in rows):
        raise SystemExit(1)


def _measure(root: Path, layers: int) -> Iterator[Row]:
    _generate(root, layers)
    print(f"{'conversion':<30}{'open MB':>10}{'limit MB':>10}{'peak MB':>10}{'seconds':>9}  ")
    for case in CASES:
        open_bytes = sum(_largest_file(root / name) for name in case.opened)
        limit = FACTOR * open_bytes + ALLOWANCE
        flags = ["--from", case.kind, "--to", case.target]
        for option, value in case.options.items():
            flags += [f"--{option}", value if option == "dtype" else str(root / value)]
        begin = time.perf_counter()
        peak = _run([str(root / case.source), str(root / case.name), *flags])
        row = Row(case.name, open_bytes / MB, limit / MB, peak / MB, time.perf_counter() - begin)
        numbers = f"{row.open_mb:>10.0f}{row.limit_mb:>10.0f}{row.peak_mb:>10.0f}{row.seconds:>9.1f}"
        print(f"{row.name:<30}{numbers}  {'ok' if row.is_within else 'OVER'}", flush=True)
        yield row


def _run(arguments: list[str]) -> float:
    """Peak bytes above those after imports, of a process that converts."""
    result = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(arguments)], check=True, capture_output=True, text=True
    )
    after_imports, peak = map(int, result.stdout.splitlines()[-1].split())
    return float(peak - after_imports)


def _convert(arguments: list[str]) -> None:
    from mgie_lit.checkpoints.conversion import apple, diffusion, mllm, trained  # noqa: F401 - before the first number
    from mgie_lit.cli.convert import run

    after_imports = _memory("VmRSS")
    run(arguments)
    print(after_imports, _memory("VmHWM"))


def _memory(key: str) -> int:
    """Bytes, from Linux's account of this process."""
    match = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def _largest_file(folder: Path) -> int:
    return max(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _generate(root: Path, layers: int) -> None:
    """Folders of all formats; weights are half precision but sd15's."""
    from mgie_lit.models.edit_head import EditHead
    from mgie_lit.models.mllm import MLLM
    from mgie_lit.testing import published_weights as published

    language = {**LANGUAGE, "num_hidden_layers": layers * NUM_SHARDS}
    with torch.device("meta"):
        whole: MLLM = MLLM(language, VISION)
        head: Any = EditHead(WIDTH, 512, 768, 77, 4, 4, 4, 2048)
    mllm = _filled(whole)
    published.write_llava(root / "llava-bin", mllm, num_shards=NUM_SHARDS, num_rows=32003)
    published.write_llava(root / "llava-st", mllm, num_shards=NUM_SHARDS, stem="model", suffix=".safetensors")
    published.write_llava(root / "delta", mllm, num_shards=NUM_SHARDS)
    tensors = published.legacy_llava_tensors(mllm, num_rows=BASE_ROWS, has_tower=False)
    base = {name: value for name, value in tensors.items() if "projector" not in name}
    published.write_shards(root / "base", base, num_shards=NUM_SHARDS)
    apple = {f"edit_head.{name}": value for name, value in _filled(head).state_dict().items()}
    words = {name: value for name, value in tensors.items() if name in ("model.embed_tokens.weight", "lm_head.weight")}
    words = {name: torch.zeros(ROWS, WIDTH, dtype=torch.half) for name in words}
    published.write_shards(root / "apple", {**words, **apple}, stem="mllm", suffix=".pt")
    del mllm, tensors, base, words, apple
    _generate_diffusion(root)


def _generate_diffusion(root: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    from mgie_lit.testing import published_weights as published

    stem = "diffusion_pytorch_model"
    autoencoder: Any = AutoencoderKL()
    for name, in_channels in (("sd15-wide", 8), ("sd15", 4)):
        with torch.device("meta"):
            empty: Any = UNet2DConditionModel(**{**UNET, "in_channels": in_channels})
        unet: Any = _filled(empty)
        if name == "sd15-wide":
            published.write_shards(root / "apple", unet.state_dict(), stem="unet", suffix=".pt")
        else:
            unet = unet.float()
        for part, module in (("unet", unet), ("vae", autoencoder)):
            module.save_config(root / name / part)
            published.write_shards(root / name / part, module.state_dict(), stem=stem)
        DDIMScheduler().save_pretrained(root / name / "scheduler")
        (root / name / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def _filled(module: nn.Module) -> Any:  # noqa: ANN401 - the same class
    """A module of the meta device in memory, in half precision, with arbitrary numbers."""
    filled = module.half().to_empty(device="cpu")
    with torch.no_grad():
        for value in filled.state_dict().values():
            value.fill_(0.25)
    return filled


if __name__ == "__main__":
    main()
