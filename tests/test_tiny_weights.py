"""The weights that ship: present, small, better than copying, and quick."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from mgie_lit.checkpoints.cards.files import is_edited
from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.data.photo_edits.expressive import parse_expressive
from mgie_lit.data.readers.photo_edits import PhotoEdits
from mgie_lit.evaluation.evaluate import score_in_memory
from mgie_lit.evaluation.systems import EditorSystem
from mgie_lit.metrics.pixel import L1, SSIM
from mgie_lit.pipeline import MGIEPipeline

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 15 * 2**20
MAX_CPU_SECONDS = 3.0  # load, edit and hand over a photograph


@pytest.fixture(scope="module")
def pipeline() -> MGIEPipeline:
    return MGIEPipeline.from_pretrained("tiny")


def test_files_are_small_and_hold_no_pickles() -> None:
    files = [path for path in TINY_DIR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}


def test_the_card_is_what_the_hub_reads_and_says_what_was_measured() -> None:
    card = ModelCard.load(TINY_DIR / "README.md")
    assert not is_edited((TINY_DIR / "README.md").read_text()), "make it anew: tests/golden/make_tiny_card.py"
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "diffusers")
    page = (ROOT / "docs" / "model_card_tiny.md").read_text()
    results = card.data.eval_results or []
    assert len({one.dataset_config for one in results}) == 2, "the global edits, and those with drawn scenes"
    for one in results:
        digits = {"l1": 3, "ssim": 3, "psnr": 1}.get(one.metric_type)
        assert digits is None or f"| `{one.metric_type}` | {one.metric_value:.{digits}f} [" in page
    assert all("8246c9f" in text and "6,000" in text for text in (card.text, page))


def test_beats_copying_on_test_photographs(pipeline: MGIEPipeline) -> None:
    dataset = PhotoEdits("test", 40, pipeline.options.resolution)
    system = EditorSystem(pipeline.editor, pipeline.options)
    examples = [dataset[index] for index in range(len(dataset))]
    scores = score_in_memory(system, examples, {"l1": L1(), "ssim": SSIM()})
    means, copies = scores.means(), scores.copy_means()
    assert means["l1"] < 0.3 * copies["l1"]
    assert means["ssim"] > copies["ssim"]
    meanings = [parse_expressive(edit.edited.expressive_instruction) for edit in scores.edits if edit.edited]
    right = [meaning == example.attributes["meaning"] for meaning, example in zip(meanings, examples, strict=True)]
    assert np.mean(right) >= 0.95


def test_edits_a_photograph_at_its_own_size_in_seconds() -> None:
    photograph = Image.open(Path(__import__("skimage").__file__).parent / "data" / "coffee.png").convert("RGB")
    begin = time.process_time()
    pipeline = MGIEPipeline.from_pretrained("tiny")
    out = pipeline(image=photograph, instruction="make it darker", generator=torch.Generator().manual_seed(0))
    assert time.process_time() - begin < MAX_CPU_SECONDS
    assert out.images[0].size == photograph.size
    assert np.asarray(out.images[0]).mean() < 0.8 * np.asarray(photograph).mean()
    assert parse_expressive(out.expressive_instructions[0]) == "darker"
