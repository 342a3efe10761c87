"""Entry of the command ``mgie``: picks the sub-command and turns errors into messages and exit statuses."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

from mgie_lit.cli.messages import ShownError, show_traceback, shows_tracebacks, user_message

COMMANDS = {
    "train": "train a system from a config; -m sweeps",
    "eval": "measure a checkpoint, or a folder of images by any system",
    "edit": "edit one image, or the rows of a file, by instruction",
    "prepare": "work on data before training: preview, check, cache, expressive, shards",
    "convert": "turn published weights into ours, and ours into published formats",
    "demo": "edit pictures in a browser",
    "doctor": "what a training would need: memory, time, files",
    "report": "make one HTML page from run and evaluation directories",
}
USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 2, 1, 130

HELP = (
    "usage: mgie COMMAND [ARGUMENTS]\n\nInstruction-based image editing guided by a multimodal LLM.\n\ncommands:\n"
    + "".join(f"  {name:<9} {summary}\n" for name, summary in COMMANDS.items())
    + "\noptions:\n  -h, --help  this text; `mgie COMMAND --help` for a command\n  --version   the version\n\n"
    "MGIE_DEBUG=1 in the environment shows the traceback of every error.\n"
)


def main(argv: list[str] | None = None) -> None:
    """Run ``mgie`` with these arguments; by default the process's own.

    Args:
        argv: Arguments without the program's name.

    Raises:
        SystemExit: Status 2 for mistakes of the user, 1 for internal errors, 130 when interrupted; a sub-command may
            exit with its own. Without it all went well.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if argv is None and not sys.stderr.isatty():  # CI and Jupyter set FORCE_COLOR, and moving bars would fill the log
        os.environ.setdefault("TTY_INTERACTIVE", "0")
    command = f"mgie {arguments[0]}" if arguments and arguments[0] in COMMANDS else "mgie"
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{command}: interrupted\n")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(INTERNAL_ERROR) from None
    except Exception as error:  # the one place where errors end
        _exit_with(command, error)


def _dispatch(arguments: list[str]) -> None:
    if not arguments:
        sys.stderr.write(HELP)
        raise SystemExit(USER_ERROR)
    name = arguments[0]
    if name in {"-h", "--help"}:
        sys.stdout.write(HELP)
    elif name == "--version":
        import mgie_lit

        print(f"mgie {mgie_lit.__version__}")
    elif name in COMMANDS:
        import_module(f"mgie_lit.cli.{name}").run(arguments[1:])
    else:
        _refuse_command(name)


def _exit_with(command: str, error: Exception) -> NoReturn:
    message = user_message(error)
    if message is None or shows_tracebacks():
        show_traceback(error)
    if message is None:
        sys.stderr.write(
            f"\n{command}: {error}\n"
            if isinstance(error, ShownError)
            else f"\n{command}: internal error ({type(error).__name__}), a fault of mgie_lit rather than yours. "
            "Please report it with the lines above, the command, and the run's config.yaml and versions.json.\n"
        )
        raise SystemExit(INTERNAL_ERROR)
    lines = message.splitlines() or [type(error).__name__]
    text = lines[0] if len(lines) == 1 else "\n  ".join(["", *lines])
    sys.stderr.write(f"{command}: error: {text}\n")
    raise SystemExit(USER_ERROR)


def _refuse_command(name: str) -> NoReturn:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    sys.stderr.write(f"mgie: error: expected a command ({', '.join(COMMANDS)}), got {name}{hint}\n")
    raise SystemExit(USER_ERROR)


if __name__ == "__main__":
    main()
