"""IPr2Pr as ml-mgie packs it: ``ipr2pr.tsv`` with images, ``ipr2pr.pkl`` with words, ``ipr2pr_expressive.json``."""

from __future__ import annotations

import os
import pickle
import pickletools
import reprlib
from typing import IO, TYPE_CHECKING, Any

from mgie_lit.data.readers.encoded_images import decode_base64, decode_image
from mgie_lit.data.readers.expressive import read_expressive
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from PIL import Image

    from mgie_lit.data.readers.held_files import HeldFiles

TSV, PICKLE, EXPRESSIVE = "ipr2pr.tsv", "ipr2pr.pkl", "ipr2pr_expressive.json"
_ALLOWED = {"set", "frozenset"}  # the only plain containers that a pickle makes by calling their class
# Instructions that no plain container needs. Registered extensions are the ones that `find_class` does not always see:
# the interpreter keeps those it has loaded once.
_REFUSED = {
    *("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}  # keep the last value under a number

PackedPrompt = tuple[str, "list[tuple[str, str, int]]"]  # name; id, instruction and byte offset of each pair


class _PlainUnpickler(pickle.Unpickler):
    """Knows containers, numbers and texts; everything else could run code."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if module in {"builtins", "__builtin__"} and name in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


def load_plain_pickle(file: IO[bytes], where: str) -> Any:  # noqa: ANN401 - any plain value
    """Content of a pickle that holds plain containers, numbers and texts only.

    Args:
        file: Open for reading bytes.
        where: Its path, for messages.

    Returns:
        The content.

    Raises:
        DataError: It is no pickle, or one that would load or call something else; nothing of it was run.
    """
    try:
        _check_instructions(file)
        return _PlainUnpickler(file).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DataError(
            f"{where}: expected a pickle of lists, dicts, texts and numbers, got something else ({error}); it was not "
            "run: get the file from where you trust it"
        ) from error


def _check_instructions(file: IO[bytes]) -> None:
    """Read a pickle's instructions without following them, and go back to where it began."""
    begin = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(begin)
    for instruction, argument, _ in pickletools.genops(file):
        if instruction.name in _REFUSED:
            raise pickle.UnpicklingError(f"it has the instruction {instruction.name}")
        if instruction.name in _MEMO and argument is not None and int(argument) > size:
            raise pickle.UnpicklingError(f"it counts {argument} values in {size} bytes")  # and would take the memory
    file.seek(begin)


def read_prompts(root: Path) -> list[PackedPrompt]:
    """Pairs by prompt, prompts by name, so that splits do not depend on the file's order.

    Args:
        root: Folder of the files.

    Returns:
        All prompts with their pairs.

    Raises:
        DataError: The pickle is faulty.
    """
    path = root / PICKLE
    with path.open("rb") as file:
        content = load_plain_pickle(file, str(path))
    tasks = content.get("task") if isinstance(content, dict) else None
    if not isinstance(tasks, list):
        raise DataError(
            f"{path}: expected {{'task': [[pair], ...]}}, got a {type(content).__name__}; is it the right file?"
        )
    prompts: dict[str, list[tuple[str, str, int]]] = {}
    for index, task in enumerate(tasks):
        sample_id, instruction, offset = _pair(task, f"{path}, row {index}")
        prompts.setdefault(sample_id.rpartition("_")[0] or sample_id, []).append((sample_id, instruction, offset))
    return sorted((name, sorted(pairs)) for name, pairs in prompts.items())


def read_packed_expressive(root: Path) -> dict[str, str | None]:
    """Expressive instructions that lie beside, by sample id; empty without the file."""
    file = root / EXPRESSIVE
    return dict(read_expressive([file])) if file.is_file() else {}


def packed_rows(prompts: Sequence[PackedPrompt], expressive: Mapping[str, str | None]) -> Iterator[Row]:
    """Rows of some prompts.

    Args:
        prompts: From :func:`read_prompts`.
        expressive: Sample id -> expressive instruction.

    Yields:
        A row a pair; ``source`` is the byte offset of its line.
    """
    for name, pairs in prompts:
        for sample_id, instruction, offset in pairs:
            yield Row(
                sample_id=sample_id,
                instruction=instruction,
                source=str(offset),
                expressive_instruction=expressive.get(sample_id),
                session_id=name,
                origin=f"{TSV}, byte {offset}",
            )


def open_pair(files: HeldFiles, path: Path, offset: int) -> tuple[Image.Image, Image.Image]:
    """Source and target of a line.

    Args:
        files: Of the reader.
        path: Of the tsv file.
        offset: Byte at which the line begins.

    Returns:
        Both in RGB.

    Raises:
        DataError: No line begins there, or it does not hold two images in base64.
    """
    where = f"{path}, byte {offset}"
    try:
        begins = offset == 0 or files.read(path, offset - 1, 1) == b"\n"
        parts = files.read_line(path, offset).rstrip(b"\r").split(b"\t") if begins else []
    except FileNotFoundError:
        raise DataError(f"{path}: expected the images of {PICKLE}, got nothing; copy it beside that file") from None
    except OSError as error:
        raise DataError(f"{where}: expected two images, can not read them ({error.strerror})") from error
    if len(parts) != 2:
        raise DataError(f"{where}: expected a line of two images in base64; {TSV} and {PICKLE} do not belong together")
    source, target = (decode_image(decode_base64(part, where), where) for part in parts)
    return source, target


def _pair(task: Any, where: str) -> tuple[str, str, int]:  # noqa: ANN401
    """Sample id, instruction and offset of ``[{"input", "answer", "instruction", "lineidx"}]``."""
    entry = task[0] if isinstance(task, list) and len(task) == 1 else task
    source, words, offset = (
        (entry.get(key) for key in ("input", "instruction", "lineidx")) if isinstance(entry, dict) else [None] * 3
    )
    if not (isinstance(source, str) and isinstance(words, str) and isinstance(offset, int)):
        raise DataError(
            f"{where}: expected `input`, `instruction` and `lineidx`, got {reprlib.repr(task)[:80]}; it is damaged"
        )
    return source.removesuffix("_0"), words, offset
