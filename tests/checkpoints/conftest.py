from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.editor import Editor
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.mllm import MLLM
from mgie_lit.testing import published_weights as published
from mgie_lit.testing.tiny_models import tiny_editor


@pytest.fixture
def editor() -> Editor:
    """A whole system with random weights; the paper's kind of autoencoder."""
    return tiny_editor("kl", seed=1)


@pytest.fixture
def other_editor() -> Editor:
    """The same with other weights, to be filled."""
    return tiny_editor("kl", seed=2)


@pytest.fixture
def mllm(editor: Editor) -> MLLM:
    assert isinstance(editor.guide, MLLMGuide)
    return editor.guide.mllm


@pytest.fixture
def other_mllm(other_editor: Editor) -> MLLM:
    assert isinstance(other_editor.guide, MLLMGuide)
    return other_editor.guide.mllm


@pytest.fixture
def llava(tmp_path: Path, mllm: MLLM) -> Path:
    """Legacy LLaVA in two .bin shards, the tower outside, before MGIE's visual tokens were added."""
    clip = published.write_clip(tmp_path / "clip", mllm)
    return published.write_llava(tmp_path / "llava", mllm, tower=clip, num_rows=504, num_shards=2)


@pytest.fixture
def pipeline_folder(tmp_path: Path, editor: Editor) -> Path:
    """InstructPix2Pix's kind of pipeline folder."""
    return published.write_pipeline(tmp_path / "diffusion", editor)
