"""Our ``preset=released`` against recorded runs of the released MGIE code.

    python benchmarks/parity.py --golden DIR [--json FILE]

DIR is a bundle: manifests with sizes, seeds, texts and settings, and safetensors files with draws and outputs, any
subset of them. The model is rebuilt from the manifests alone, the recorded inputs and draws go through our own code,
and each recorded output gives a row: its largest relative difference, the tolerance, ``ok``, ``failed`` or ``absent``.

Not compared, because nothing can be said about them: runs under bfloat16 and edit heads computing in float16 (other
kernels round in another way), sizes and key counts of checkpoint files, means and spreads of tensors that are compared
themselves, and strings that the released code printed. Nor the tokens that the inference manifest shows under ``tok``,
and the edit loss of the text with a separator (``v6``): the texts behind them are not recorded.

Exit status: 0 all is well, 1 a check failed (also one whose file is damaged) or files are missing that every bundle
must have, 2 there is no such folder or its manifests make no model. The last line is the count of rows in each case.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from parity_checks import inference, text, trainer, training
from parity_checks.bundle import TOKENIZER, TRAIN_MANIFEST, Bundle, BundleError
from parity_checks.model import Rebuilt, rebuild
from parity_checks.rebuild import WEIGHTS, check_trainable
from parity_checks.rows import Table, render

LIBRARIES = ("torch", "transformers", "tokenizers", "diffusers", "lightning", "numpy", "pillow", "mgie-lit")
NEEDED = (TRAIN_MANIFEST, TOKENIZER)  # without these there is no model
CHECKS: dict[str, Callable[[Rebuilt, Table], None]] = {
    "names of the weights": check_trainable,
    "training ids and labels": text.check_training_text,
    "demo prompts": text.check_demo_prompts,
    "training images": text.check_training_images,
    "training steps": training.check_steps,
    "a text with a separator": training.check_ignored_text,
    "a float16 vision tower": training.check_half_tower,
    "the trainer's steps": trainer.check_trainer,
    "plain loops": trainer.check_plain_loops,
    "edits": inference.check_cases,
    "half-precision files": inference.check_half_null,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks that a bundle allows and print the table.

    Args:
        argv: Arguments; None = those of the process.

    Returns:
        The exit status.
    """
    arguments = _parser().parse_args(argv)
    try:
        bundle = Bundle(arguments.golden)
        table = run(bundle)
    except BundleError as error:
        print(error, file=sys.stderr)
        broken = Table()
        broken.fail("bundle", "the model", str(error))
        print(broken.summary())
        return 2
    missing = bundle.missing_core()
    if arguments.json is not None:
        _write_json(arguments.json, bundle, table, missing)
    print(render(table.rows))
    print()
    if missing:
        print(f"required core incomplete, missing: {', '.join(missing)}")
    print(table.summary())
    return 1 if missing or table.count("failed") else 0


def run(bundle: Bundle, checks: Sequence[str] = tuple(CHECKS)) -> Table:
    """The rows of a bundle.

    Args:
        bundle: With any subset of the files.
        checks: Names of ``CHECKS``, in order.

    Returns:
        All rows.

    Raises:
        BundleError: The training manifest can not be read, or its parts do not fit together.
    """
    table = Table()
    missing = [name for name in NEEDED if not bundle.has(name)]
    if missing:
        for name in (WEIGHTS, *checks):
            table.absent(name, "everything", f"no {' and no '.join(missing)}")
        return table
    start = time.monotonic()
    rebuilt = rebuild(bundle, table)
    for name in checks:
        print(f"[{time.monotonic() - start:5.1f} s] {name}", file=sys.stderr, flush=True)
        with table.guard(name, "everything"):
            CHECKS[name](rebuilt, table)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare preset=released with recorded runs of the released code.")
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="folder with the recorded numbers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows and versions there, too")
    return parser


def _write_json(path: Path, bundle: Bundle, table: Table, missing: Sequence[str]) -> None:
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES} | {"python": platform.python_version()}
    content = {
        "golden": str(bundle.folder),
        "summary": {status: table.count(status) for status in ("ok", "failed", "absent")},
        "missing_core": list(missing),
        "rows": [asdict(row) for row in table.rows],
        "versions": versions,
        "recorded_with": bundle.train.get("versions"),
        "threads": torch.get_num_threads(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(content), indent=1) + "\n", encoding="utf-8")


def _finite(value: object) -> object:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    is_odd = isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
    return str(value) if is_odd else value


if __name__ == "__main__":
    sys.exit(main())
