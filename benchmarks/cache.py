"""CPU time of a training step and of loading a batch with `data.cache`, over the time without it.

    python benchmarks/cache.py --json cache.json

A system between the small and the paper's size, with random weights: AutoencoderKL of widths 32, 64, 128, 128, a CLIP
tower of 6 layers, a LLaMA of 6 layers; photographs of 512 px as JPEG, trained at 128 px. Both ways run in one process,
in turn, and only ratios are printed: they depend little on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.data.cache.opened import Cache, EncodedCollator, open_cache
from mgie_lit.data.cache.recipe import Recipe, recipes_of
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.image_files import open_image
from mgie_lit.data.transforms import PairTransform
from mgie_lit.editor import Editor, Objective
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.freezing import set_trainable
from mgie_lit.models.mllm import MLLM
from mgie_lit.prepare.cache import Encoder, build_cache
from mgie_lit.prompts import EditPrompt, load_tokenizer
from mgie_lit.testing.random_data import random_draws
from mgie_lit.testing.tiny_models import tiny_scheduler
from mgie_lit.types import EditBatch, EditExample

RESOLUTION, PHOTO_SIDE, BATCH_SIZE = 128, 512, 4
PATCH, WIDTH, CONDITION_DIM = 16, 256, 192
PAPER = ["guide.mllm.language_model.model.embed_tokens.*", "guide.mllm.language_model.lm_head.*"]
PAPER += ["guide.edit_head.*", "unet.*"]


class Photos:
    """Pairs of JPEG files whose reader knows them."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        for index in range(count):
            for number, path in enumerate(self.image_files(index)):
                rng = np.random.default_rng(2 * index + number)
                coarse = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
                coarse.resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC).save(path, quality=90)

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> str:
        """Id of a pair."""
        return f"pair-{index}"

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Source and target."""
        return self.folder / f"{index}_0.jpg", self.folder / f"{index}_1.jpg"

    def texts(self, index: int) -> tuple[str, str | None]:
        """Words of about the usual length."""
        return f"make it look like number {index}", "the picture shows a bright day with a blue sky over green hills"

    def __getitem__(self, index: int) -> EditExample:
        source, target = map(open_image, self.image_files(index))
        return EditExample(self.sample_id(index), source, target, *self.texts(index))


def make_editor() -> Editor:
    """The system described above; 30 M parameters."""
    torch.manual_seed(0)
    prompt = EditPrompt(
        load_tokenizer("small"),
        num_image_patches=(RESOLUTION // PATCH) ** 2,
        system="",
        query="what will this image be like if ' {instruction} '",
        max_length=192,
    )
    shared = {"num_hidden_layers": 6, "num_attention_heads": 4}
    language = {"vocab_size": 512, "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, **shared}
    language |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    vision = {"hidden_size": 384, "intermediate_size": 1536, "image_size": RESOLUTION, "patch_size": PATCH, **shared}
    size = {"height": RESOLUTION, "width": RESOLUTION}
    guide = MLLMGuide(
        MLLM(language, vision, image_patch_id=prompt.image_patch_id),
        EditHead(WIDTH, WIDTH, CONDITION_DIM, 16, 4, 2, 2, 2 * WIDTH),
        prompt,
        CLIPImageProcessorPil(size={"shortest_edge": RESOLUTION}, crop_size=size),
    )
    autoencoder = AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=16,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        in_channels=8,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=CONDITION_DIM,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    editor = Editor(guide, autoencoder, unet, tiny_scheduler("epsilon", num_train_timesteps=1000))
    set_trainable(editor, PAPER)
    return editor


def make_cache(folder: Path, editor: Editor, collator: EditCollator, photos: Photos) -> Cache:
    """Encode all photographs."""
    found = recipes_of(editor, collator, "32-true")
    recipes = {kind: recipe for kind, recipe in found.items() if isinstance(recipe, Recipe)}
    build_cache(folder, {"train": photos}, collator, recipes, Encoder(editor, torch.device("cpu"), "32-true"))
    cache = open_cache(folder, editor, collator, "32-true")
    assert cache is not None
    return cache


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of a call, over all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(plain: Callable[[], object], cached: Callable[[], object], rounds: int) -> dict[str, float]:
    """Time with the cache over time without, in turn; the first round warms up."""
    ratios = [cpu_seconds(cached) / cpu_seconds(plain) for _ in range(rounds + 1)][1:]
    tenths = statistics.quantiles(ratios, n=10)
    return {"median": statistics.median(ratios), "p10": tenths[0], "p90": tenths[-1]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="pairs of measurements")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        editor, photos = make_editor(), Photos(folder, BATCH_SIZE)
        guide = editor.guide
        assert isinstance(guide, MLLMGuide)
        collator = EditCollator(guide.prompt, guide.image_processor, PairTransform(RESOLUTION))
        cache = make_cache(folder / "cache", editor, collator, photos)
        encoded, encoded_collator = cache.encoded(photos), EncodedCollator(collator)
        optimizer = torch.optim.AdamW([p for p in editor.parameters() if p.requires_grad], fused=True)

        def load() -> EditBatch:
            return collator([photos[index] for index in range(BATCH_SIZE)])

        def load_cached() -> EditBatch:
            return encoded_collator([encoded[index] for index in range(BATCH_SIZE)])

        draws = random_draws(editor, load())

        def step(batch: EditBatch) -> None:
            editor.losses(batch, draws, Objective()).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        plain_batch, cached_batch = load(), load_cached()
        results = {
            "step": compare(lambda: step(plain_batch), lambda: step(cached_batch), arguments.rounds),
            "loading": compare(load, load_cached, arguments.rounds),
        }
    for what, ratio in results.items():
        print(
            f"{what}: {ratio['median']:.2f} of the CPU time without a cache ({ratio['p10']:.2f} to {ratio['p90']:.2f})"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"batch_size": BATCH_SIZE, **results}, indent=2))


if __name__ == "__main__":
    main()
