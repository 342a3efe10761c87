"""Synthetic IPr2Pr in its three layouts."""

from __future__ import annotations

import base64
import json
import pickle
from typing import TYPE_CHECKING, Any

from mgie_lit.testing.datasets.pictures import (
    RESULTS,
    edited_picture,
    encoded,
    image_column,
    save,
    source_picture,
    words,
    write_json,
)

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_PROMPT = 132  # names have gaps, as the real ones


def write_ipr2pr(
    root: Path, *, num_prompts: int = 40, has_seeds: bool = True, prompt_keys: str = "caption"
) -> list[tuple[str, list[str]]]:
    """The authors' folders: a folder a prompt with one to four pairs.

    Args:
        root: Folder to write.
        num_prompts: At least 1.
        has_seeds: Whether there is a ``seeds.json``.
        prompt_keys: How ``prompt.json`` describes the source: ``caption`` (as it is generated), ``input`` (as some
            copies have it) or ``none`` (only ``edit``, as the sample of ml-mgie).

    Returns:
        Name and seeds of each prompt, as in ``seeds.json``.
    """
    prompts = [_prompt(number) for number in range(num_prompts)]
    for number, (name, seeds) in enumerate(prompts):
        described = {prompt_keys: f"a disc, number {number}", "output": f"an edited disc, number {number}"}
        content = {"edit": words(number)} | ({} if prompt_keys == "none" else described)
        write_json(content, root / name / "prompt.json")
        lines = [{"seed": int(seed), "p2p_threshold": 0.4, "cfg_scale": 7.5, "clip_sim_dir": 0.3} for seed in seeds]
        (root / name / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        for seed in seeds:
            source = source_picture(int(seed) % 1000)
            save(source, root / name / f"{seed}_0.jpg")
            save(edited_picture(source, number), root / name / f"{seed}_1.jpg")
    if has_seeds:
        write_json([[name, seeds] for name, seeds in prompts], root / "seeds.json")
    return prompts


def write_ipr2pr_packed(root: Path, *, num_prompts: int = 40, has_expressive: bool = True) -> list[str]:
    """The files of ml-mgie: ``ipr2pr.tsv``, ``ipr2pr.pkl`` and ``ipr2pr_expressive.json``; prompts in no order.

    Args:
        root: Folder to write.
        num_prompts: At least 1.
        has_expressive: Whether there are expressive instructions.

    Returns:
        Sample ids as written.
    """
    root.mkdir(parents=True, exist_ok=True)
    tasks: list[list[dict[str, Any]]] = []
    expressive: dict[str, dict[str, str]] = {}
    with (root / "ipr2pr.tsv").open("wb") as file:
        for number in reversed(range(num_prompts)):
            name, seeds = _prompt(number)
            for seed in seeds:
                key = f"{name}_{seed}_0"
                entry = {"input": key, "answer": f"{name}_{seed}_1", "instruction": words(number)}
                tasks.append([{**entry, "lineidx": file.tell()}])
                expressive[key] = {"instruction": words(number), "expressive": RESULTS[number % len(RESULTS)]}
                source = source_picture(int(seed) % 1000)
                pair = (source, edited_picture(source, number))
                file.write(b"\t".join(base64.b64encode(encoded(image, "JPEG")) for image in pair) + b"\n")
    (root / "ipr2pr.pkl").write_bytes(pickle.dumps({"task": tasks}))
    if has_expressive:
        (root / "ipr2pr_expressive.json").write_text(json.dumps(expressive, indent=2))
    return [task[0]["input"].removesuffix("_0") for task in tasks]


def write_ipr2pr_columns(root: Path, *, num_prompts: int = 40, is_subset: bool = False) -> None:
    """Hugging Face's parquet files: one pair a prompt.

    Args:
        root: Folder to write; two files go into ``data/``.
        num_prompts: At least 2.
        is_subset: The columns of small subsets: ``input_image``, and no captions.
    """
    from datasets import Dataset, Features, Image, Value

    sources = [source_picture(number) for number in range(num_prompts)]
    columns: dict[str, Any] = {
        "input_image" if is_subset else "original_image": image_column(sources),
        "edit_prompt": [words(number) for number in range(num_prompts)],
        "edited_image": image_column([edited_picture(image, number) for number, image in enumerate(sources)]),
    }
    if not is_subset:
        columns["original_prompt"] = [f"a disc, number {number}" for number in range(num_prompts)]
        columns["edited_prompt"] = [f"an edited disc, number {number}" for number in range(num_prompts)]
    features = Features({name: Image() if name.endswith("_image") else Value("string") for name in columns})
    data = Dataset.from_dict(columns, features=features)
    (root / "data").mkdir(parents=True)
    for shard in range(2):
        file = root / "data" / f"train-{shard:05d}-of-00002-0123456789abcdef.parquet"
        data.shard(2, shard, contiguous=True).to_parquet(str(file))


def _prompt(number: int) -> tuple[str, list[str]]:
    name = f"{_FIRST_PROMPT + 13 * number:07d}"
    return name, [str(1_000_003 * (number + 1) + 10_007 * pair) for pair in range(1 + number % 4)]
