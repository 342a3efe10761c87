"""Exports: folders of a whole pipeline, as ``save_pretrained`` writes them; which folder a name stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from mgie_lit.checkpoints.hub import download
from mgie_lit.errors import CheckpointError

TINY = "tiny"
TINY_DIR = Path(__file__).parents[1] / "assets" / "tiny"
INDEX_FILE = "model_index.json"
_LOAD_ERRORS = (  # what the libraries raise over missing, damaged or foreign part files
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


def find_export(name: str) -> Path:
    """Folder of a pipeline; a hub id is downloaded, because the user named it.

    Args:
        name: ``tiny``, which ships in the package, a folder, or a hub id ``owner/name``.

    Returns:
        A folder with a ``model_index.json``.

    Raises:
        CheckpointError: There is none; the message says what to do.
    """
    if name == TINY:
        if not (TINY_DIR / INDEX_FILE).is_file():
            raise CheckpointError(
                "model 'tiny': expected its weights inside the package, found none; train them with "
                "`mgie train experiment=tiny` and name the run directory instead"
            )
        return TINY_DIR
    folder = Path(name).expanduser()
    if (folder / INDEX_FILE).is_file():
        return folder
    if folder.exists():
        raise CheckpointError(f"model {name}: expected a folder with {INDEX_FILE}; export one with save_pretrained")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(
            f"model {name}: expected 'tiny', an existing folder or a hub id owner/name; found nothing"
        )
    return download(name)


@contextmanager
def whole_parts(folder: Path) -> Iterator[None]:
    """While the libraries load the parts of an export: what they raise becomes one error that says what to do.

    Args:
        folder: Of the export.

    Raises:
        CheckpointError: A part is missing, damaged or another library's.
    """
    try:
        yield
    except _LOAD_ERRORS as error:
        raise CheckpointError(
            f"model {folder}: expected whole files of every part, as save_pretrained writes them, can not load "
            f"them ({_first_line(error)}); copy or export the folder again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
