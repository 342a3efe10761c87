"""``mgie edit``: edit one image, or the rows of a file."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.checkpoints.tiny import TINY_NOTE
from mgie_lit.cli.image_output import check_output, save_image
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.cli.edit_model import EditModel

_WIDTH = 100  # characters of a line
EXAMPLES = f"""\
{textwrap.fill(TINY_NOTE, _WIDTH)}

examples:
  mgie edit photo.jpg "make it brighter"
  mgie edit photo.jpg "turn it to black and white" -o grey.png --model runs/train/<time> --steps 20 --seed 3
  mgie edit --batch photos/metadata.jsonl --out-dir edited

A row of the batch file: {{"source_file_name": "a.jpg", "instruction": "make it brighter", "id": "a"}}; paths are
relative to the file, `id` is optional. Existing files are never overwritten.
"""
_LARGEST_SEED = 2**63 - 1
DEFAULT_BATCH_SIZE = 4  # rows; those that do not fit into memory together are edited one by one


def run(argv: list[str]) -> None:
    """Edit as ``argv`` says; the output's path is the last line on stdout."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    _check_combination(parser, arguments)
    _check_ranges(arguments)
    if arguments.batch is not None:
        _edit_batch(arguments)
    else:
        _edit_one(arguments)


def _edit_one(arguments: argparse.Namespace) -> None:
    source = Path(arguments.image)
    output = Path(arguments.output or f"{source.stem}_edited.png")
    check_output(output)
    from mgie_lit.data.image_files import open_image

    image = open_image(source)
    edited, expressive_instruction = _load(arguments).edit(image, arguments.instruction)
    save_image(edited, output)
    print(expressive_instruction)
    print(output)


def _edit_batch(arguments: argparse.Namespace) -> None:
    from mgie_lit.cli.edit_batch import edit_rows, read_rows

    folder = Path(arguments.out_dir)
    rows = read_rows(Path(arguments.batch))
    for row in rows:
        check_output(folder / row.output_name, option="--out-dir")
    batch_size = arguments.batch_size or DEFAULT_BATCH_SIZE
    num_failed = edit_rows(rows, folder, _load(arguments, has_bar=False), batch_size=batch_size)
    print(folder)
    if num_failed:
        raise SystemExit(1)


def _load(arguments: argparse.Namespace, *, has_bar: bool = True) -> EditModel:
    from mgie_lit.cli.edit_model import load_edit_model

    return load_edit_model(
        arguments.model,
        weights=arguments.weights,
        device=arguments.device,
        seed=arguments.seed,
        has_bar=has_bar and sys.stderr.isatty(),
        preset=arguments.preset,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance_scale,
        image_guidance_scale=arguments.image_guidance_scale,
    )


def _check_combination(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.batch is not None:
        if arguments.image is not None or arguments.output is not None:
            parser.error("--batch takes its images from the file; leave out IMAGE, INSTRUCTION and -o")
        if arguments.out_dir is None:
            parser.error("--batch: expected --out-dir DIR as well")
    elif arguments.image is None or arguments.instruction is None:
        parser.error('expected IMAGE and "INSTRUCTION", or --batch FILE --out-dir DIR')
    elif arguments.out_dir is not None:
        parser.error("--out-dir goes with --batch; name the output of one image with -o")
    elif arguments.batch_size is not None:
        parser.error("--batch-size goes with --batch; one image is edited by itself")


def _check_ranges(arguments: argparse.Namespace) -> None:
    checks = [
        ("--steps", arguments.steps, 1, None),
        ("--guidance-scale", arguments.guidance_scale, 0, None),
        ("--image-guidance-scale", arguments.image_guidance_scale, 0, None),
        ("--batch-size", arguments.batch_size, 1, None),
        ("--seed", arguments.seed, 0, _LARGEST_SEED),
    ]
    faults = [
        f"{option}: expected a number >= {least}" + (f" and <= {most}" if most else "") + f", got {value}"
        for option, value, least, most in checks
        if value is not None and not least <= value <= (most or float("1e300"))
    ]
    if arguments.instruction is not None and not arguments.instruction.strip():
        faults.append("INSTRUCTION: expected words, got an empty text")
    if faults:
        raise ConfigError("\n".join(faults))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mgie edit",
        usage='mgie edit IMAGE "INSTRUCTION" [-o OUT] [OPTIONS]\n       mgie edit --batch FILE --out-dir DIR [OPTIONS]',
        description="Edit an image by an instruction; prints what the model understood, then the output's path.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", nargs="?", help="the image to edit")
    add("instruction", metavar="INSTRUCTION", nargs="?", help="what to change, in quotes")
    add("-o", "--output", metavar="OUT", help="a new image file; default: <image's stem>_edited.png, here")
    add("--batch", metavar="FILE", help="metadata.jsonl with a row an edit")
    add("--out-dir", metavar="DIR", help="where --batch writes <id>.png")
    batch_help = f"rows of --batch that are edited together; default: {DEFAULT_BATCH_SIZE}"
    add("--batch-size", type=int, metavar="N", help=batch_help)
    model_help = "tiny (ships with mgie_lit), a run directory, a .ckpt file, an export folder or a hub id"
    add("--model", default="tiny", metavar="M", help=model_help)
    weights_help = "of a run: its moving average, where it has one, or what the optimizer left; default: ema"
    add("--weights", choices=("ema", "raw"), default="ema", help=weights_help)
    preset_help = "plain, the model's own steps and scales, or fast, fewer passes of the UNet; default: plain"
    add("--preset", choices=("plain", "fast"), default="plain", help=preset_help)
    add("--steps", type=int, metavar="N", help="denoising steps; default: the preset's")
    add("--guidance-scale", type=float, metavar="X", help="weight of the instruction; default: the preset's")
    add("--image-guidance-scale", type=float, metavar="X", help="weight of the image; default: the preset's")
    add("--seed", type=int, default=0, metavar="N", help="same seed, same image; default: 0")
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps; default: the GPU where there is one")
    return parser
