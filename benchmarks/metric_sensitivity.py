"""What changes a metric by how much: the table of docs/metrics.md, on the package's own photographs.

    python benchmarks/metric_sensitivity.py [--clip FOLDER] [--dino FOLDER]

Every photograph is a target (the largest 3:2 part of it, 768x512 px), and a brighter version of it is the edited image.
Then one thing is changed at a time, and the mean change of each score is printed. Without folders the encoders are a
ViT-B/32 and a ViT-S/16 with random weights: that shows that a change acts, not how much it acts on CLIP or DINO.
For CLIP-T each photograph has two captions, of the edit alone and of the whole picture.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from mgie_lit.data.image_files import open_image
from mgie_lit.data.photo_edits.photographs import photographs
from mgie_lit.functional import similarity
from mgie_lit.functional.images import pil_to_unit
from mgie_lit.metrics.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable

    Encoder = Callable[[Image.Image, Preprocessing], torch.Tensor]
    Case = Callable[[Image.Image, Image.Image], tuple[Image.Image, Image.Image]]

SIZE = (768, 512)
CLIP_RULES = Preprocessing(size=224, crop=224)
DINO_RULES = Preprocessing(size=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
PIXEL = {
    "l1": similarity.l1_distance,
    "l2": similarity.l2_distance,
    "psnr": similarity.psnr,
    "ssim": similarity.ssim,
}


def targets() -> dict[str, Image.Image]:
    """All bundled photographs that are large enough, by name, cut to 3:2."""
    found = {}
    for split in ("train", "val", "test"):
        for photograph in photographs(split):
            image = open_image(photograph.path)
            scale = max(SIZE[0] / image.width, SIZE[1] / image.height)
            if scale <= 1.5:
                size = (round(image.width * scale), round(image.height * scale))
                found[photograph.name] = middle(image.resize(size, Image.Resampling.LANCZOS), SIZE)
    return found


def middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A part of ``size`` out of the centre."""
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def brighter(image: Image.Image) -> Image.Image:
    """The edit: a gamma of 0.8."""
    pixels = (np.asarray(image, dtype=np.float64) / 255.0) ** 0.8
    return Image.fromarray((pixels * 255.0).round().astype(np.uint8))


def through_model_size(name: str) -> Case:
    """The edited image as a model gives it that works at two thirds of the size, enlarged by a filter."""

    def case(edited: Image.Image, target: Image.Image) -> tuple[Image.Image, Image.Image]:
        small = edited.resize((SIZE[0] * 2 // 3, SIZE[1] * 2 // 3), Image.Resampling.BICUBIC)
        return small.resize(SIZE, Image.Resampling[name]), target

    return case


def jpeg(quality: int) -> Case:
    """The edited image stored as JPEG."""

    def case(edited: Image.Image, target: Image.Image) -> tuple[Image.Image, Image.Image]:
        stored = io.BytesIO()
        edited.save(stored, "JPEG", quality=quality)
        return Image.open(stored).convert("RGB"), target

    return case


def both_at(side: int) -> Case:
    """Both images reduced before they are compared."""

    def case(edited: Image.Image, target: Image.Image) -> tuple[Image.Image, Image.Image]:
        size = (side * SIZE[0] // SIZE[1], side)
        return tuple(image.resize(size, Image.Resampling.BICUBIC) for image in (edited, target))  # type: ignore[return-value]

    return case


def centre_square(edited: Image.Image, target: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Only the middle of both."""
    return tuple(middle(image, (SIZE[1], SIZE[1])) for image in (edited, target))  # type: ignore[return-value]


CASES: dict[str, Case] = {
    "as it is": lambda edited, target: (edited, target),
    "edited at 512x341, enlarged: bicubic": through_model_size("BICUBIC"),
    "... bilinear": through_model_size("BILINEAR"),
    "... lanczos": through_model_size("LANCZOS"),
    "... nearest": through_model_size("NEAREST"),
    "both reduced to 256 px": both_at(256),
    "centre square of both": centre_square,
    "edited as JPEG 95": jpeg(95),
    "edited as JPEG 75": jpeg(75),
}
RULES = {
    "encoder sees bilinear in place of bicubic": {"resample": "bilinear"},
    "... nearest": {"resample": "nearest"},
    "encoder sees 224 of 256 px (CLIP: 224)": {"size": 256, "crop": 224},
    "encoder sees 224 px (DINO: 224 of 256)": {"size": 224, "crop": 224},
}
CAPTIONS = {  # what a data set may say of a target, as MagicBrush's two kinds do
    "local captions (of the edit)": "a brighter {name}",
    "global captions (of the whole picture)": "a photograph of a {name} and of everything around it, in brighter light",
    "local captions behind `a photo of`": "a photo of a brighter {name}",
}


def make_encoders(clip: Path | None, dino: Path | None) -> dict[str, tuple[Encoder, Preprocessing]]:
    """The encoders by metric, with the preprocessing that they begin with."""
    import transformers

    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(patch_size=32, projection_dim=512)
    clip_model = (
        transformers.CLIPVisionModelWithProjection(vision)
        if clip is None
        else transformers.CLIPVisionModelWithProjection.from_pretrained(clip)
    ).eval()
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    dino_model = (
        transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=False)
        if dino is None
        else transformers.ViTModel.from_pretrained(dino, add_pooling_layer=False)
    ).eval()

    @torch.no_grad()
    def encode_clip(image: Image.Image, rules: Preprocessing) -> torch.Tensor:
        return clip_model(pixel_values=rules.pixels([image])).image_embeds

    @torch.no_grad()
    def encode_dino(image: Image.Image, rules: Preprocessing) -> torch.Tensor:
        return dino_model(pixel_values=rules.pixels([image])).last_hidden_state[:, 0]

    return {"clip_i": (encode_clip, CLIP_RULES), "dino": (encode_dino, DINO_RULES)}


def make_text_encoder(clip: Path | None) -> Callable[[str], torch.Tensor]:
    """The text side of the same CLIP; with random weights it reads the package's small tokenizer."""
    import transformers

    from mgie_lit.prompts import load_text_tokenizer

    torch.manual_seed(1)
    if clip is None:
        tokenizer: Any = load_text_tokenizer("small")
        config = transformers.CLIPTextConfig(projection_dim=512, eos_token_id=tokenizer.eos_token_id)
        model = transformers.CLIPTextModelWithProjection(config).eval()
    else:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(clip)
        model = transformers.CLIPTextModelWithProjection.from_pretrained(clip).eval()

    @torch.no_grad()
    def encode(text: str) -> torch.Tensor:
        return model(**tokenizer(text, return_tensors="pt")).text_embeds

    return encode


def print_captions(
    pictures: dict[str, Image.Image], encode: Encoder, encode_text: Callable[[str], torch.Tensor]
) -> None:
    """Mean CLIP-T by the kind of captions, edits and rules unchanged."""
    print("\n| captions | clip_t |\n| --- | --- |")
    seen = {name: encode(brighter(target), CLIP_RULES) for name, target in pictures.items()}
    for kind, words in CAPTIONS.items():
        values = [
            float(similarity.cosine_similarity(features, encode_text(words.format(name=name.replace("_", " ")))))
            for name, features in seen.items()
        ]
        print(f"| {kind} | {np.mean(values):.4f} |", flush=True)


def scores(edited: Image.Image, target: Image.Image, encoders: dict[str, tuple[Encoder, Preprocessing]]) -> list[float]:
    """All metrics of a pair."""
    pair = [pil_to_unit(image)[None] for image in (edited, target)]
    values = [float(formula(*pair)) for formula in PIXEL.values()]
    for encode, rules in encoders.values():
        values.append(float(similarity.cosine_similarity(encode(edited, rules), encode(target, rules))))
    return values


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--dino", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoders = make_encoders(options.clip, options.dino)
    named = targets()
    pictures = list(named.values())
    print(f"{len(pictures)} photographs\n")
    print(f"| changed | {' | '.join([*PIXEL, *encoders])} |\n| --- |{' --- |' * (len(PIXEL) + len(encoders))}")
    plain = np.array([scores(brighter(target), target, encoders) for target in pictures]).mean(0)
    for name, case in CASES.items():
        means = np.array([scores(*case(brighter(target), target), encoders) for target in pictures]).mean(0)
        shown = means if name == "as it is" else means - plain
        sign = "" if name == "as it is" else "+"
        print(f"| {name} | {' | '.join(f'{value:{sign}.4f}' for value in shown)} |", flush=True)
    for name, changes in RULES.items():
        changed = {key: (one, _changed(rules, changes)) for key, (one, rules) in encoders.items()}
        means = np.array([scores(brighter(target), target, changed) for target in pictures]).mean(0)
        cells = ["" for _ in PIXEL] + [f"{value:+.4f}" for value in (means - plain)[len(PIXEL) :]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print_captions(named, encoders["clip_i"][0], make_text_encoder(options.clip))


def _changed(rules: Preprocessing, changes: dict[str, object]) -> Preprocessing:
    values = {"size": rules.size, "crop": rules.crop, "resample": rules.resample, "mean": rules.mean, "std": rules.std}
    return Preprocessing(**(values | changes))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
