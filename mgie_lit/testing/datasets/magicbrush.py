"""Synthetic MagicBrush: the owners' folders, and Hugging Face's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from mgie_lit.testing.datasets.pictures import (
    SIDE,
    disc_mask,
    image_column,
    local_words,
    locally_edited,
    save,
    source_picture,
    write_json,
)

if TYPE_CHECKING:
    from pathlib import Path

SPLIT_SESSIONS = {"train": 6, "dev": 3, "test": 3}  # sessions; of one, two or three turns in a row
_FIRST_ID = 7000


def write_magicbrush(root: Path, *, splits: tuple[str, ...] = ("train", "dev", "test")) -> None:
    """Sessions of one to three turns, masks as pictures with a hole, descriptions for dev and test.

    Args:
        root: Folder to write.
        splits: Folders to write; ids do not depend on it.
    """
    for split in splits:
        folder = root / split
        sessions: dict[str, list[dict[str, str]]] = {}
        described: dict[str, dict[str, dict[str, str]]] = {"local": {}, "global": {}}
        for number in _sessions_of(split):
            session_id = str(_FIRST_ID + 17 * number)
            sessions[session_id] = _write_session(folder / "images" / session_id, session_id, number)
            outputs = [turn["output"] for turn in sessions[session_id]]
            described["local"][session_id] = {name: f"the disc in {name}" for name in outputs}
            names = [sessions[session_id][0]["input"], *outputs]
            described["global"][session_id] = {name: f"all of {name}" for name in names}
        write_json(sessions, folder / "edit_sessions.json")
        write_json([turn for turns in sessions.values() for turn in turns], folder / "edit_turns.json")
        if split != "train":
            for kind, captions in described.items():
                write_json(captions, folder / f"{kind}_descriptions.json")


def write_magicbrush_columns(root: Path, *, is_old: bool = False) -> None:
    """Hugging Face's parquet files of train and dev; there is no test split.

    Args:
        root: Folder to write; files go into ``data/``.
        is_old: The older columns: ``input_img``, ``output_img``, and no mask.
    """
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    source, target = ("input_img", "output_img") if is_old else ("source_img", "target_img")
    (root / "data").mkdir(parents=True)
    for split in ("train", "dev"):
        turns = [(number, turn) for number in _sessions_of(split) for turn in range(_num_turns(number))]
        columns: dict[str, Any] = {
            "img_id": [str(_FIRST_ID + 17 * number) for number, _ in turns],
            "turn_index": [turn + 1 for _, turn in turns],
            source: image_column([_state(number, turn) for number, turn in turns]),
            "instruction": [local_words(number + turn) for number, turn in turns],
            target: image_column([_state(number, turn + 1) for number, turn in turns]),
        }
        if not is_old:
            columns["mask_img"] = image_column([_mask(number) for number, _ in turns])
        kinds = {"img_id": Value("string"), "turn_index": Value("int32"), "instruction": Value("string")}
        features = Features({name: kinds.get(name, ImageFeature()) for name in columns})
        file = root / "data" / f"{split}-00000-of-00001-0123456789abcdef.parquet"
        Dataset.from_dict(columns, features=features).to_parquet(str(file))


def _write_session(folder: Path, session_id: str, number: int) -> list[dict[str, str]]:
    names = [f"{session_id}-input.png"]
    save(_state(number, 0), folder / names[0])
    turns = []
    for turn in range(_num_turns(number)):
        names.append(f"{session_id}-output{turn + 1}.png")
        save(_state(number, turn + 1), folder / names[-1])
        mask = f"{session_id}-mask{turn + 1}.png"
        save(_mask(number), folder / mask)
        turns.append({"input": names[-2], "mask": mask, "output": names[-1], "instruction": local_words(number + turn)})
    return turns


def _sessions_of(split: str) -> range:
    before = 0
    for name, count in SPLIT_SESSIONS.items():
        if name == split:
            return range(before, before + count)
        before += count
    raise ValueError(f"split: expected one of {', '.join(SPLIT_SESSIONS)}, got {split!r}")


def _num_turns(number: int) -> int:
    return 1 + number % 3


def _state(number: int, turn: int) -> Image.Image:
    """The picture of a session after some turns."""
    picture = source_picture(number)
    for done in range(turn):
        picture = locally_edited(picture, number + done, disc_mask(number, picture.size))
    return picture


def _mask(number: int) -> Image.Image:
    """The source, transparent where it is edited, at twice its size: masks come in sizes of their own."""
    picture = source_picture(number)
    picture.putalpha(ImageOps.invert(disc_mask(number, picture.size)))
    return picture.resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST)
