"""Whose fault an error is, and what to tell the user."""

from __future__ import annotations

import os

from mgie_lit.errors import MGIEError

_CONFIG_LIBRARIES = {"hydra", "omegaconf", "antlr4"}


class ShownError(RuntimeError):
    """An internal error whose traceback has been shown, by the process that it comes from."""


def show_traceback(error: Exception) -> None:
    """Print the traceback of an error, once."""
    import traceback

    if not isinstance(error, ShownError):
        traceback.print_exception(error)


def shows_tracebacks() -> bool:
    """Whether the user asked for the traceback of every error: ``MGIE_DEBUG=1`` in the environment."""
    return os.environ.get("MGIE_DEBUG") == "1"


def user_message(error: BaseException) -> str | None:
    """What to tell the user who caused ``error``; None where the fault is not the user's.

    Config libraries wrap what a constructor raised: a `MGIEError`, a `ValueError` or a missing package inside is the
    message, with the config key that led there; anything else inside is ours.
    """
    if isinstance(error, MGIEError):
        return _own_words(error)
    library = type(error).__module__.partition(".")[0]
    if library == "lightning" and type(error).__name__ == "MisconfigurationException":
        return str(error)
    if library not in _CONFIG_LIBRARIES:
        return None
    if type(error).__name__ != "InstantiationException" or error.__cause__ is None:
        return str(error)
    key = next((line.split(":", 1)[1].strip() for line in str(error).splitlines() if line.startswith("full_key:")), "")
    inner = error.__cause__
    message = str(inner) if isinstance(inner, ValueError | ImportError) else user_message(inner)
    return f"{key}: {message}" if message and key else message


def _own_words(error: MGIEError) -> str:
    """The message, without the traceback that torch puts around an error of a loader's process."""
    text, name = str(error), f"{type(error).__module__}.{type(error).__qualname__}"
    return text.rpartition(f"\n{name}: ")[2].rstrip() if text.startswith("Caught ") else text
