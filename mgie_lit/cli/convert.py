"""``mgie convert``: published weights into ours, and ours into published formats."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.checkpoints.conversion.combinations import (
    CHOICES,
    COMBINATIONS,
    OPTIONS,
    SOURCES,
    TARGETS,
    find_combination,
)
from mgie_lit.checkpoints.destination import check_destination
from mgie_lit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from mgie_lit.checkpoints.cards.card import Card
    from mgie_lit.checkpoints.writing import OnBytes

EPILOG = (
    "conversions:\n"
    + "".join(f"  {combination!s}\n      {combination.gives}\n" for combination in COMBINATIONS)
    + """
examples:
  mgie convert ml-mgie mgie-7b --from apple --to export --llava LLaVA-7B-v1 --diffusion instruct-pix2pix
  mgie convert LLaVA-Lightning-7B-delta-v1-1 llava --from delta --to export --base llama-7b
  mgie convert runs/train/<time> for-ml-mgie --from run --to apple --dtype half

Weights are read from .safetensors, .bin or .pt, whole or in shards, one file at a time; nothing in them is executed.
DEST appears when everything is written, or not at all. Number types are kept but where --dtype says otherwise.
"""
)
_EXPORT_INDEX = "model_index.json"


def run(argv: list[str]) -> None:
    """Convert as ``argv`` says; DEST is the last line on stdout."""
    arguments = _parser().parse_args(argv)
    options = {name: getattr(arguments, name) for name in OPTIONS}
    find_combination(arguments.source_kind, arguments.target, {name for name in options if options[name] is not None})
    source, dest = Path(arguments.source).expanduser(), Path(arguments.dest).expanduser()
    folders = {name: Path(options[name]).expanduser() for name in options if options[name] and name not in CHOICES}
    _check_sources({"SOURCE": source, **{f"--{name}": folder for name, folder in folders.items()}})
    check_destination(dest)
    with _Progress() as progress:
        if arguments.source_kind == "run":
            _convert_run(source, dest, arguments.target, options, progress.on_bytes)
        else:
            _convert_published(arguments.source_kind, arguments.target, source, dest, folders, progress.on_bytes)
    print(arguments.dest)


def _convert_published(
    kind: str, target: str, source: Path, dest: Path, folders: dict[str, Path], on_bytes: OnBytes
) -> None:
    from mgie_lit.checkpoints.conversion import apple, diffusion, mllm

    if kind == "apple":
        apple.convert_apple(source, dest, on_bytes=on_bytes, **folders)
    elif kind == "llava":
        mllm.convert_llava(source, dest, on_bytes=on_bytes, **folders)
    elif kind == "delta":
        mllm.convert_delta(source, dest, on_bytes=on_bytes, **folders)
    elif target == "diffusers":
        diffusion.convert_diffusion_to_diffusers(source, dest, on_bytes=on_bytes)
    else:
        diffusion.convert_diffusion_to_export(source, dest, widen=kind == "sd15", on_bytes=on_bytes)


def _convert_run(source: Path, dest: Path, target: str, options: dict[str, str | None], on_bytes: OnBytes) -> None:
    """A trained editor; of an export folder the files are read, so that number types are kept."""
    from mgie_lit.checkpoints.conversion import trained
    from mgie_lit.checkpoints.runs import EMA

    is_export = (source / _EXPORT_INDEX).is_file()
    # an export of InstructPix2Pix or Stable Diffusion has parts and no index; its UNet comes back all the same
    has_unet = is_export or (source / "unet" / "config.json").is_file()
    if is_export and target == "export":
        raise CheckpointError(f"{source}: expected a run directory or a .ckpt file, got an export folder already")
    if has_unet and options["weights"] is not None:
        raise ConfigError(f"--weights: expected a run directory or a .ckpt file, got the export {source}; leave it out")
    weights = options["weights"] or EMA
    if target == "apple":
        if is_export:
            tensors, first = trained.exported_tensors(source)
        else:
            from mgie_lit.config.build import load_editor

            tensors, first = trained.trained_tensors(load_editor(source, weights)[0], source)
        trained.write_apple(tensors, first, dest, dtype=options["dtype"])  # type: ignore[arg-type]
    elif target == "diffusers" and has_unet:
        trained.export_unet(source, dest, on_bytes=on_bytes)
    elif target == "diffusers":
        from mgie_lit.config.build import load_editor

        trained.write_unet(load_editor(source, weights)[0], dest)
    else:
        from mgie_lit.checkpoints.destination import new_folder
        from mgie_lit.checkpoints.writing import MAX_SHARD_BYTES
        from mgie_lit.config.build import load_pipeline

        pipeline = load_pipeline(str(source), weights)
        pipeline.card = _card(pipeline.card, source, dest.name, options)
        with new_folder(dest) as folder:
            pipeline.save_pretrained(folder, max_shard_size=MAX_SHARD_BYTES)


def _card(card: object, source: Path, name: str, options: dict[str, str | None]) -> Card:
    """The run's card under its name, with the numbers of ``--metrics``."""
    from mgie_lit.checkpoints.cards.card import Card

    assert isinstance(card, Card)
    if options["metrics"] is None:
        return replace(card, name=name)
    from mgie_lit.config.card import results_of
    from mgie_lit.config.loaded import describe_weights

    described = describe_weights("checkpoint", str(source), options["weights"] or "ema")
    return replace(card, name=name, results=(results_of(Path(options["metrics"]).expanduser(), source, described),))


def _check_sources(folders: dict[str, Path]) -> None:
    missing = [
        f"{name}: expected a folder or file, found nothing at {path}"
        for name, path in folders.items()
        if not path.exists()
    ]
    if missing:
        raise CheckpointError("\n".join(missing))


class _Progress:
    """A bar for every part that is written, on stderr; silent where that is no terminal."""

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
        self._tasks: dict[str, int] = {}
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_bytes(self, part: str, done: int, total: int) -> None:
        """Move the bar of ``part``."""
        if part not in self._tasks:
            self._tasks[part] = self._progress.add_task(part, total=total)
        self._progress.update(self._tasks[part], completed=done)  # type: ignore[arg-type]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mgie convert",
        usage="mgie convert SOURCE DEST --from FORMAT --to FORMAT [OPTIONS]",
        description="Convert published weights into ours, and ours into published formats.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder of the weights; of run also a .ckpt file")
    add("dest", metavar="DEST", help="a new or empty folder")
    add("--from", dest="source_kind", required=True, choices=SOURCES, help="what SOURCE is")
    add("--to", dest="target", required=True, choices=TARGETS, help="what DEST becomes")
    add("--llava", metavar="DIR", help="the LLaVA folder that Apple's files go on")
    add("--base", metavar="DIR", help="the LLaMA or Vicuna folder that a delta goes on")
    add("--diffusion", metavar="DIR", help="the pipeline folder with autoencoder, scheduler and the UNet's config")
    add("--vision", metavar="DIR", help="CLIP's folder; default: inside LLaVA's weights, or what its config names")
    add("--metrics", metavar="DIR", help="an evaluation of these very weights, whose numbers go into the model card")
    add("--dtype", choices=("half", "float"), help="number type of Apple's two files; default: as it is")
    add(
        "--weights",
        choices=("ema", "raw"),
        help="of a run: its moving average, where it has one (ema, the default), or not",
    )
    return parser
