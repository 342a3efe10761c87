"""Cut the small subset of a recorded bundle that the default tests run on.

    python tests/golden/make_parity_small.py BUNDLE

Kept are what fits into 300 KB and a few seconds: texts, ids, JPEG bytes, sizes and seeds of all weights, the losses and
slices of two training steps, the trainer's table, and words and states of two edits. Noise is not stored: the program
draws it from its name.
"""

from __future__ import annotations

import json
import lzma
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

DESTINATION = Path(__file__).parent / "parity_small"
STEP = {"draw.ts", "draw.prob", "llm_slice", "loss", "loss_ce", "loss_edit", "unet_cond_mean_std"}
EDIT = {"prompt_ids", "sequence", "hid_slice", "input_image_u8", "lm_head.rows", "lm_head.values", "EMB"}
CASES = ("B_img_eos", "I_slow_img_eos")
HASH_EVERY = 25  # weights; hashes do not compress


def main(bundle: Path) -> None:
    """Write the subset."""
    shutil.rmtree(DESTINATION, ignore_errors=True)
    DESTINATION.mkdir()
    train = json.loads((bundle / "train_manifest.json").read_text())
    for index, entry in enumerate(train["weights"].values()):
        if index % HASH_EVERY:
            del entry["sha256"]
    train["results"] = {name: entry for name, entry in train["results"].items() if not name.startswith("traj")}
    _compress("train_manifest.json", json.dumps(train).encode())
    _compress("tokenizer.model", (bundle / "tokenizer.model").read_bytes())
    infer = json.loads((bundle / "infer_manifest.json").read_text())
    infer = {key: infer[key] for key in ("steps", "guidance")} | {
        "cases": {case: infer["cases"][case] for case in CASES}
    }
    (DESTINATION / "infer_manifest.json").write_text(json.dumps(infer, indent=1) + "\n")
    for name in ("demo_prompt_ids.json", "trainer_run.json"):
        (DESTINATION / name).write_bytes((bundle / name).read_bytes())
    ids = {"input_ids", "labels", "attention_mask"}
    _subset(bundle, "train_inputs", lambda key: key in ids or key.startswith("jpeg."))
    _subset(bundle, "train_v4_edge", STEP.__contains__)
    _subset(bundle, "train_v5_trunc", (STEP | ids).__contains__)
    for case in CASES:
        _subset(bundle, f"infer_{case}", EDIT.__contains__)


def _compress(name: str, content: bytes) -> None:
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    (DESTINATION / f"{name}.xz").write_bytes(packed)


def _subset(bundle: Path, name: str, keep: Callable[[str], bool]) -> None:
    tensors = load_file(bundle / f"{name}.safetensors")
    path = DESTINATION / f"{name}.safetensors"
    save_file({key: tensor.clone() for key, tensor in tensors.items() if keep(key)}, path)
    path.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
