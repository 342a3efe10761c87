"""One of the processes of `mgie eval num_processes=...`; started by it, not by users."""

from __future__ import annotations

import sys
from pathlib import Path

from mgie_lit.cli.main import INTERNAL_ERROR, USER_ERROR
from mgie_lit.cli.messages import user_message


def main(argv: list[str]) -> None:
    """Work on one share.

    Args:
        argv: Directory of the evaluation, rank, number of processes.

    Raises:
        SystemExit: As of ``mgie``: 2 for mistakes of the user, 1 for internal errors.
    """
    folder, rank, num_ranks = argv
    from mgie_lit.config.evaluation import run_share

    try:
        run_share(Path(folder), int(rank), int(num_ranks))
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise SystemExit(_internal(error)) from error
        sys.stderr.write(message + "\n")
        raise SystemExit(USER_ERROR) from error


def _internal(error: Exception) -> int:
    import traceback

    traceback.print_exception(error)
    return INTERNAL_ERROR


if __name__ == "__main__":
    main(sys.argv[1:])
