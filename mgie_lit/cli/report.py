"""``mgie report``: one HTML page about runs, evaluations and sweeps, and its tables as Markdown and CSV."""

from __future__ import annotations

import argparse
from pathlib import Path

from mgie_lit.errors import ConfigError


def run(argv: list[str]) -> None:
    """Write a report.

    Args:
        argv: Directories, and ``-o FILE``.

    Raises:
        ConfigError: A directory does not exist, or the output does.
    """
    arguments = _parser().parse_args(argv)
    missing = [str(folder) for folder in arguments.directories if not folder.is_dir()]
    if missing:
        raise ConfigError(f"DIR: expected run or evaluation directories, found none at {', '.join(missing)}")
    output: Path = arguments.output
    if output.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"-o: expected a name that ends in .html, got {output}")
    if output.exists():
        raise ConfigError(f"-o: expected a new file, but {output} exists; choose another with -o, or remove it")
    from mgie_lit.report.build import write_report

    output.parent.mkdir(parents=True, exist_ok=True)
    write_report(arguments.directories, output, wandb_project=arguments.wandb)
    print(output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mgie report",
        description="Make one self-contained HTML page: tables of systems with paired differences, loss curves, "
        "samples, trials of sweeps. The tables also go, as Markdown, to FILE with .md in place of .html, and as CSV to "
        "a folder beside it.",
    )
    parser.add_argument(
        "directories", metavar="DIR", nargs="+", type=Path, help="directory of a run, an evaluation or a sweep"
    )
    parser.add_argument(
        "-o", dest="output", metavar="FILE", type=Path, default=Path("report.html"), help="default: report.html"
    )
    wandb_help = "also hand page and tables to wandb, offline unless WANDB_MODE says otherwise"
    parser.add_argument("--wandb", metavar="PROJECT", help=wandb_help)
    return parser
