"""``mgie prepare expressive``: from a data set and folders of models to a file that a training reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mgie_lit.cli.main import main
from mgie_lit.prompts import SMALL_TOKENIZER_DIR

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "red",
    "blue sky",
    "snow on the hills",
    "less of it",
    "a brighter sea",
    "fog",
    "more fog",
    "night",
    "no people",
]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaMA with its tokenizer."""
    folder = tmp_path_factory.mktemp("llm")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=530,
        hidden_size=40,
        intermediate_size=52,
        num_hidden_layers=2,
        num_attention_heads=5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(SMALL_TOKENIZER_DIR).save_pretrained(folder)
    return folder


@pytest.fixture
def pairs(workplace: Path) -> Path:
    """Annotations without their images."""
    for split in ("train", "val"):
        folder = workplace / "pairs" / split
        folder.mkdir(parents=True)
        rows = [
            {"id": f"{split}-{number}", "source_file_name": f"{number}.png", "target_file_name": f"{number}.png",
             "instruction": words}
            for number, words in enumerate(WORDS)
        ]  # fmt: skip
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workplace / "pairs"


def overrides(llm: Path, *more: str) -> list[str]:
    return [
        *(
            "prepare",
            "expressive",
            "data=imagefolder",
            "data.root=pairs",
            "expressive=text_only",
            "expressive.device=cpu",
        ),
        *("expressive/summariser=none", f"expressive.deriver.model={llm}", "expressive.deriver.max_new_tokens=5"),
        *("expressive.batch_size=2", "expressive.path=out/words.jsonl", *more),
    ]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_text_alone_needs_no_images(llm: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(overrides(llm))
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "out/words.jsonl"
    assert "18 rows" in err
    rows = rows_of(Path("out/words.jsonl"))
    assert [row["id"] for row in rows] == [f"{split}-{number}" for split in ("train", "val") for number in range(9)]
    settings = json.loads(Path("out/words.settings.json").read_text())
    assert {row["settings"] for row in rows} == {settings["hash"]}
    assert settings["settings"]["deriver"]["question"].count("  (in a short paragraph)") == 1
    assert settings["environment"]["models"] == {"deriver": str(llm)}
    assert settings["environment"]["versions"]["torch"] == version("torch")
    assert json.loads(Path("out/words.report.json").read_text())["num_rows"] == 18


def test_two_shards(
    llm: Path, pairs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(overrides(llm, "expressive.shard=0/2"))
    assert capsys.readouterr().out.splitlines()[-1] == "out/words.jsonl.parts/part-00000-of-00002.jsonl"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    main(overrides(llm))
    assert capsys.readouterr().out.splitlines()[-1] == "out/words.jsonl"
    monkeypatch.undo()
    os.chdir(pairs.parent)
    main(overrides(llm, "expressive.path=whole.jsonl"))
    assert Path("whole.jsonl").read_bytes() == Path("out/words.jsonl").read_bytes()


def test_a_training_reads_the_file(llm: Path, pairs: Path) -> None:
    for split in ("train", "val"):
        for number in range(len(WORDS)):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(pairs / split / f"{number}.png")
    main(overrides(llm))
    main([
        *("train", "experiment=smoke", "data=imagefolder", "data.root=pairs", "data.expressive=out/words.jsonl"),
        *("data.batch_size=2", "data.num_workers=0", "trainer.max_steps=1"),
    ])  # fmt: skip


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["expressive.path=null"], "expressive.path: expected the file to make, got null; name one, e.g."),
        (["expressive.path=words.txt"], "expressive.path: expected a name that ends in .jsonl, got words.txt"),
        (["expressive.splits=[]"], "expressive.splits: expected some of train, val, test, each once, got []"),
        (["expressive.splits=[val,vla]"], "expressive.splits: expected some of train, val, test, each once"),
        (["expressive.splits=[val,val]"], "expressive.splits: expected some of train, val, test, each once"),
        (["expressive.shard=2/2"], "expressive.shard: expected <index>/<count>"),
        (["expressive.device=tpu"], "expressive.device: expected one of"),
        (["expressive.deriver.model=away"], "expressive.deriver.model: expected a folder with an LLM"),
        (["expressive=llava"], "model_type 'llama'; an LLM without eyes goes with expressive=text_only"),
        (
            ["expressive/summariser=flan_t5"],
            "expressive.summariser.model: expected a folder with an encoder and decoder",
        ),
        (["expressive.batch_size=0"], "expressive.batch_size: expected at least 1, got 0"),
        (["expressive.deriver.questoin=x"], "no such key; did you mean expressive.deriver.question?"),
        (["data.root=away"], "data.root: expected the folder of imagefolder, got away, which is not there"),
    ],
)
def test_mistakes(llm: Path, pairs: Path, changes: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(overrides(llm, *changes))
    assert message in capsys.readouterr().err
    assert [path.name for path in pairs.parent.iterdir()] == ["pairs"], "nothing is written"


@pytest.mark.slow
def test_killed_and_started_again(llm: Path, pairs: Path, mgie: Callable[..., Any]) -> None:
    """SIGKILL at ever later moments; the file in the end is that of a run in one go."""
    done = mgie(*overrides(llm, "expressive.path=whole.jsonl"))
    assert done.returncode == 0, done.stderr
    part = Path("out/words.jsonl.parts/part-00000-of-00001.jsonl")
    command = [sys.executable, "-m", "mgie_lit.cli.main", *overrides(llm)]
    sizes = [0]
    for _ in range(3):
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and process.poll() is None:
            if part.exists() and part.stat().st_size > sizes[-1]:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        process.wait(timeout=100)
        if Path("out/words.jsonl").exists():
            break
        sizes.append(part.stat().st_size)
    assert len(sizes) > 1, "it was never killed in the middle"
    done = mgie(*overrides(llm))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "out/words.jsonl"
    assert Path("out/words.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not Path("out/words.jsonl.parts").exists()
