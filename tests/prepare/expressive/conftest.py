"""Tiny random models of transformers in folders, and a deriver without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.prepare.expressive.derivers import Answer
from mgie_lit.prepare.expressive.recipe import Recipe
from mgie_lit.prepare.expressive.requests import Requests
from mgie_lit.prompts import SMALL_TOKENIZER_DIR

VOCAB = 530
CPU = torch.device("cpu")
QUESTION = "what will this image be like if '{instruction}'"


INSTRUCTIONS = [
    "make it red",
    "a blue sky, please",
    "add snow",
    "remove it",
    "a much brighter sea",
    "fog",
    "more fog now",
]


class FakeDeriver:
    """Answers by rule and remembers what it was asked; stops the process's work at a batch on request."""

    sees = False

    def __init__(self, *, stop_at: int | None = None, words: str = "The picture shows {}. It is bright.") -> None:
        self.stop_at = stop_at
        self.words = words
        self.batches: list[list[str]] = []
        self.is_loaded = False

    def check(self) -> None:
        """Nothing to look at."""

    def settings(self, device: torch.device) -> dict[str, Any]:
        return {"kind": "FakeDeriver", "words": self.words, "dtype": "float32" if device.type == "cpu" else "bfloat16"}

    def load(self, device: torch.device) -> None:
        self.is_loaded = True

    def answer(self, instructions: Sequence[str], images: Sequence[Image.Image]) -> list[Answer]:
        if len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append(list(instructions))
        return [Answer(self.words.format(text), is_finished=True) for text in instructions]


def write_pairs(root: Path, instructions: Sequence[str], *, split: str = "val", images: bool = False) -> Path:
    """An image folder with these instructions."""
    folder = root / split
    folder.mkdir(parents=True)
    rows = []
    for number, instruction in enumerate(instructions):
        rows.append({"id": f"{split}-{number}", "source_file_name": f"{number}.png", "instruction": instruction})
        if images:
            pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def save_tokenizer(folder: Path, *, template: str | None = None) -> PreTrainedTokenizerBase:
    """The package's small tokenizer, as a model's folder has it."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(SMALL_TOKENIZER_DIR)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return tokenizer


def llama_config(**changes: Any) -> LlamaConfig:  # noqa: ANN401
    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 40,
        "intermediate_size": 52,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }
    return LlamaConfig(**settings | changes)


@pytest.fixture(scope="session")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA without a chat template."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(1)
    LlamaForCausalLM(llama_config(initializer_range=0.5)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def silent_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA whose first token is always the end token, and that comes with sampling defaults."""
    folder = tmp_path_factory.mktemp("silent")
    model = LlamaForCausalLM(llama_config())
    torch.nn.init.zeros_(model.lm_head.weight)  # all logits alike: the first id is taken
    model.generation_config.eos_token_id = [0, 2]
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.5
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def llava_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA with a processor but without a chat template."""
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(2)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(SMALL_TOKENIZER_DIR)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=36,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=28,
        patch_size=14,
        projection_dim=12,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=llama_config(initializer_range=0.5),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        pad_token_id=0,
    )
    model = LlavaForConditionalGeneration(config)
    # a projector of this size makes what the model writes depend on the image
    torch.nn.init.normal_(model.model.multi_modal_projector.linear_2.weight, std=3.0)
    model.save_pretrained(folder)
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def t5_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 as a summariser."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=VOCAB,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        initializer_factor=3.0,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def recipe(deriver: FakeDeriver | None = None, **changes: Any) -> Recipe:  # noqa: ANN401
    """A recipe in batches of two."""
    settings: dict[str, Any] = {"batch_size": 2}
    return Recipe(deriver or FakeDeriver(), **settings | changes)


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    """Seven instructions without images."""
    return Requests({"val": ImageFolder("val", root=write_pairs(tmp_path / "data", INSTRUCTIONS))})
