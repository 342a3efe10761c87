"""``mgie demo``: edit pictures in a browser."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.demo.limits import Limits
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.demo.models import EditModel

EXAMPLES = """\
examples:
  mgie demo
  mgie demo --model runs/train/<time> --model tiny --port 8000

The page has a model picker with every --model, and with runs and exports below --runs-dir. Pictures live in a temporary
folder that is removed at the end. Programs use the same function: docs/demo.md.
"""
LIMIT_HELP = {
    "megabytes": "size of an uploaded file",
    "megapixels": "width times height of a picture, in millions",
    "steps": "denoising steps of an edit",
    "grid": "edits of one comparison",
    "queue": "jobs that wait behind the running one",
    "turns": "edits that a session remembers",
    "characters": "length of an instruction",
    "hours": "time that a picture is kept",
}
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_LARGEST_PORT = 65535


def run(argv: list[str]) -> None:
    """Serve the page until interrupted; its address is the only line on stdout."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if find_spec("gradio") is None:
        raise ConfigError(
            'mgie demo: expected the package gradio, which is not installed; pip install "mgie-lit[demo]"'
        )
    if not 1 <= arguments.port <= _LARGEST_PORT:
        raise ConfigError(f"--port: expected a number from 1 to {_LARGEST_PORT}, got {arguments.port}")
    if arguments.keep_models < 1:
        raise ConfigError(f"--keep-models: expected an integer >= 1, got {arguments.keep_models}")
    if arguments.host not in _LOCAL_HOSTS:
        sys.stderr.write(
            f"mgie demo: warning: with --host {arguments.host} everybody who can reach this machine can use the demo; "
            "it has no login\n"
        )
    _serve(arguments)


def _serve(arguments: argparse.Namespace) -> None:
    limits = Limits(**{name: getattr(arguments, f"max_{name}") for name in LIMIT_HELP})
    from mgie_lit.demo.server import check_port, serve

    check_port(arguments.host, arguments.port)  # before a model is loaded
    from mgie_lit.config.devices import choose_device
    from mgie_lit.config.loaded import load_edit_pipeline
    from mgie_lit.demo.files import Files
    from mgie_lit.demo.models import Shelf
    from mgie_lit.demo.studio import Studio

    device = choose_device(arguments.device)

    def load(name: str) -> EditModel:
        model = load_edit_pipeline(name)
        model.to(device)
        return model  # type: ignore[return-value]

    names = arguments.model or ["tiny"]
    shelf = Shelf(names, Path(arguments.runs_dir), load, num_loaded=arguments.keep_models)
    shelf.get(shelf.default)  # a model that can not be loaded is told of now
    studio = Studio(shelf, Files(limits), limits)
    try:
        serve(studio, host=arguments.host, port=arguments.port)
    finally:
        studio.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mgie demo",
        description="Edit pictures in a browser: one after another, and several systems or seeds side by side.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    model_help = (
        "tiny (ships with mgie_lit), a run directory, an export folder or a hub id; several times; default: tiny"
    )
    add("--model", action="append", metavar="M", help=model_help)
    add("--runs-dir", default="runs", metavar="DIR", help="runs and exports below it can be picked; default: runs")
    add("--keep-models", type=int, default=1, metavar="N", help="models that stay in memory; default: 1")
    add("--device", metavar="D", help="cpu, cuda, cuda:1, mps; default: the GPU where there is one")
    add("--host", default=_LOCAL_HOSTS[0], metavar="H", help="address to listen at; default: this machine alone")
    add("--port", type=int, default=7860, metavar="P", help="default: 7860")
    limits = parser.add_argument_group("limits, for everybody who uses the page")
    for name, text in LIMIT_HELP.items():
        default = getattr(Limits, name)
        limits.add_argument(f"--max-{name}", type=int, default=default, metavar="N", help=f"{text}; default: {default}")
    return parser
