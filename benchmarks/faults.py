"""What each fault of the released code changes, measured on the shipped `tiny` weights and test photographs.

    python benchmarks/faults.py [--examples 64] [--json FILE]

One switch is turned on at a time. Losses are of one pass over test examples with fixed draws; edits are scored by L1
to the target. The table goes to `docs/numerics.md`.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from skimage import data

from mgie_lit.config.build import build_dataset, build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.order import ShuffledOrder
from mgie_lit.data.photo_edits.operations import GLOBAL_OPERATIONS
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.editor import Editor, Objective
from mgie_lit.faults import Faults
from mgie_lit.functional.randomness import keyed_generator
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.initialise import redraw_bias, redraw_linear
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.edit import edit_images
from mgie_lit.training.draws import draw
from mgie_lit.vocabulary import IGNORE_INDEX

BATCH = 8  # examples of a micro-batch
WORLD_SIZE = 8  # processes, as the released training
EPOCH_EXAMPLES = 100_000
TOO_SHORT = 0.9  # rows are cut at this quantile of their lengths to see what cutting does


class Bench:
    """The shipped system and some test examples."""

    def __init__(self, num_examples: int) -> None:
        pipeline = MGIEPipeline.from_pretrained("tiny")
        self.options = pipeline.options
        self._editor = pipeline.editor
        config = compose_config("eval", ["data=photo_edits", f"data.num_examples.test={num_examples}"])
        dataset = build_dataset(config, "test")
        self.examples = [dataset[index] for index in range(num_examples)]

    def editor(self, **faults: bool) -> Editor:
        """A copy of the system with some faults kept."""
        editor = copy.deepcopy(self._editor)
        kept = Faults(**faults)
        guide = cast("MLLMGuide", editor.guide)
        editor.faults = guide.faults = guide.prompt.faults = kept
        return editor

    def losses(self, editor: Editor, *, max_length: int | None = None) -> dict[str, float]:
        """Mean losses over micro-batches, as the released code averages them."""
        batches = list(self.batches(editor, max_length=max_length))
        sums = {"loss_lm": 0.0, "loss_edit": 0.0}
        for batch in batches:
            draws = draw(
                batch.sample_ids,
                seed=0,
                epoch=0,
                latent_shape=editor.latent_shape(*batch.source.shape[-2:]),
                num_timesteps=len(editor.scheduler.alphas_cumprod),
            )
            with torch.no_grad():
                losses = editor.losses(batch, draws, Objective())
            sums["loss_lm"] += float(cast("torch.Tensor", losses.loss_lm)) / len(batches)
            sums["loss_edit"] += float(losses.loss_edit) / len(batches)
        return sums

    def batches(self, editor: Editor, *, max_length: int | None = None) -> Iterator[Any]:
        """Collated micro-batches of ``BATCH`` examples."""
        guide = cast("MLLMGuide", editor.guide)
        prompt = copy.copy(guide.prompt)
        prompt.max_length = max_length or prompt.max_length
        collator = EditCollator(
            prompt, guide.image_processor, PairTransform(self.options.resolution), faults=guide.faults
        )
        for begin in range(0, len(self.examples), BATCH):
            yield collator(self.examples[begin : begin + BATCH])

    def edits(self, editor: Editor) -> tuple[float, list[str]]:
        """Mean L1 of the edits to their targets, and what the MLLM wrote."""
        edited = edit_images(
            editor,
            [example.source for example in self.examples],
            [example.instruction for example in self.examples],
            options=self.options,
            generators=[keyed_generator(0, 0, example.sample_id) for example in self.examples],
        )
        errors = [
            np.abs(pixels(result.image) - pixels(example.target)).mean()
            for result, example in zip(edited, self.examples, strict=True)
        ]
        return float(np.mean(errors)), [result.expressive_instruction for result in edited]


def pixels(image: Image.Image | None) -> np.ndarray:
    """RGB image as float64 in [0, 1]."""
    return np.asarray(image, dtype=np.float64) / 255.0


def change(before: float, after: float) -> str:
    """Two numbers for a table."""
    return f"{before:.5g} -> {after:.5g}"


def start(bench: Bench, spoil: Callable[[Editor], None]) -> str:
    """Edit loss before and after the weights of the start are spoilt."""
    editor = bench.editor()
    before = bench.losses(editor)["loss_edit"]
    spoil(editor)
    return f"edit loss {change(before, bench.losses(editor)['loss_edit'])}"


def redraw(editor: Editor) -> None:
    """Draw the linear layers of UNet and edit head anew."""
    torch.manual_seed(0)
    redraw_linear(editor.unet)
    redraw_linear(cast("MLLMGuide", editor.guide).edit_head)


def redraw_conv_in(editor: Editor) -> None:
    """Draw the bias of the first convolution anew."""
    torch.manual_seed(0)
    with torch.no_grad():
        redraw_bias(editor.unet.conv_in)


def halve(editor: Editor) -> None:
    """Let the vision tower compute in float16."""
    cast("Any", editor.guide).mllm.vision_tower.half()


def cut_rows(bench: Bench, name: str) -> str:
    """Losses when the longest tenth of the rows is cut."""
    editor = bench.editor()
    lengths = [int(row.sum()) for batch in bench.batches(editor) for row in batch.attention_mask]
    limit = int(np.quantile(lengths, TOO_SHORT))
    before = bench.losses(editor, max_length=limit)
    after = bench.losses(bench.editor(cut_visual_tokens=True, clamp_slice=True), max_length=limit)
    return f"with a tenth of the rows too long: {name} {change(before[name], after[name])}"


def odd_texts(bench: Bench) -> str:
    """Labels of a text that holds a separator."""
    counts = []
    for faults in (Faults(), Faults(ignore_odd_texts=True)):
        prompt = copy.copy(cast("MLLMGuide", bench.editor().guide).prompt)
        prompt.faults = faults
        row = prompt.training_row("warmer", "a sign that reads ASSISTANT: wanted")
        counts.append(sum(label != IGNORE_INDEX for label in row.labels))
    return f"labels of such a row {counts[0]} -> {counts[1]}"


def unknown_tokens(bench: Bench) -> str:
    """How many tokens of real texts are unknown to the tokenizer."""
    prompt = cast("MLLMGuide", bench.editor().guide).prompt
    ids = [
        index
        for example in bench.examples
        for index in prompt.training_row(example.instruction, str(example.expressive_instruction)).input_ids
    ]
    return f"{ids.count(int(cast('int', prompt.tokenizer.unk_token_id)))} of {len(ids)} tokens here"


def label_means(bench: Bench) -> str:
    """Instruction loss of untrained weights: mean over all labels, and mean of the micro-batches' means."""
    editor = build_editor(compose_config("train", ["size=tiny"])).eval()
    total, count = 0.0, 0
    for batch in bench.batches(editor):
        with torch.no_grad():
            loss = cast("MLLMGuide", editor.guide).losses(batch).loss_lm
        labels = int((batch.labels != IGNORE_INDEX).sum())
        total, count = total + float(cast("torch.Tensor", loss)) * labels, count + labels
    after = bench.losses(editor)["loss_lm"]
    return f"instruction loss {change(total / count, after)} (untrained, {BATCH} examples a batch)"


def editing(bench: Bench, **faults: bool) -> str:
    """L1 of edits, and how many texts change."""
    before, texts = bench.edits(bench.editor())
    after, others = bench.edits(bench.editor(**faults))
    changed = sum(text != other for text, other in zip(texts, others, strict=True))
    return f"L1 {change(before, after)}, other words in {changed} of {len(texts)}"


def photographs() -> list[Image.Image]:
    """Whole photographs that are not square."""
    return [Image.fromarray(pixels) for pixels in (data.coffee(), data.rocket(), data.chelsea())]


def two_step(bench: Bench) -> str:
    """Pixels of real photographs cut in the two ways."""
    differences = []
    for photograph in photographs():
        example = replace(bench.examples[0], source=photograph, target=None, mask=None)
        pair = [transform(256)(example).source for transform in (PairTransform, TwoStepTransform)]
        differences.append(np.abs(pixels(pair[0]) - pixels(pair[1])).mean() * 255)
    return f"mean pixel difference {np.mean(differences):.2f} of 255 at 256 px, {len(differences)} photographs"


def demo_images(bench: Bench) -> str:
    """L1 of whole photographs made gray, edited at the working size or at their own."""
    errors: list[list[float]] = [[], []]
    for column, editor in zip(errors, (bench.editor(), bench.editor(demo_images=True)), strict=True):
        for photograph in photographs():
            generator = torch.Generator().manual_seed(0)
            (edited,) = edit_images(
                editor, [photograph], ["make it grayscale"], options=bench.options, generators=[generator]
            )
            target = GLOBAL_OPERATIONS["grayscale"](pixels(photograph).astype(np.float32))
            image = edited.image.resize(photograph.size, Image.Resampling.BICUBIC)  # the demo's is a little smaller
            column.append(float(np.abs(pixels(image) - target).mean()))
    before, after = (float(np.mean(column)) for column in errors)
    return f"L1 of {len(errors[0])} whole photographs made gray {change(before, after)}"


def overlapping(_: Bench) -> str:
    """Examples that no process sees in an epoch."""
    seen = set()
    for rank in range(WORLD_SIZE):
        seen.update(ShuffledOrder(EPOCH_EXAMPLES, seed=0, rank=rank, world_size=WORLD_SIZE, overlapping=True))
    return f"{1 - len(seen) / EPOCH_EXAMPLES:.1%} of the examples unseen in an epoch of {WORLD_SIZE} processes"


def no_labels(bench: Bench) -> str:
    """Loss of a batch in which nothing is labelled."""
    editor = bench.editor(nan_without_labels=True)
    batch = next(bench.batches(editor))
    batch = replace(batch, labels=torch.full_like(batch.labels, IGNORE_INDEX))
    values = []
    for each in (bench.editor(), editor):
        with torch.no_grad():
            values.append(float(cast("torch.Tensor", cast("MLLMGuide", each.guide).losses(batch).loss_lm)))
    return f"loss of such a batch {values[0]:.1f} -> {values[1]}"


MEASUREMENTS: dict[str, Callable[[Bench], str]] = {
    "redraw_linear": lambda bench: start(bench, redraw),
    "random_conv_in_bias": lambda bench: start(bench, redraw_conv_in),
    "half_vision_tower": lambda bench: start(bench, halve),
    "cut_visual_tokens": lambda bench: cut_rows(bench, "loss_edit"),
    "ignore_odd_texts": odd_texts,
    "mask_unknown_tokens": unknown_tokens,
    "nan_without_labels": no_labels,
    "local_label_mean": label_means,
    "clamp_slice": lambda bench: cut_rows(bench, "loss_edit"),
    "free_visual_tokens": lambda bench: editing(bench, free_visual_tokens=True, clamp_slice=True),
    "ban_prompt_ngrams": lambda bench: editing(bench, ban_prompt_ngrams=True),
    "demo_tokens": lambda bench: editing(bench, demo_tokens=True),
    "two_step_resize": two_step,
    "demo_images": demo_images,
    "overlapping_ranks": overlapping,
}


def main() -> None:
    """Measure every fault and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=64, help="test examples (default 64)")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    arguments = parser.parse_args()
    missing = set(Faults.__dataclass_fields__) - set(MEASUREMENTS)
    assert not missing, f"no measurement of {', '.join(sorted(missing))}"
    bench = Bench(arguments.examples)
    rows = {}
    for name, measure in MEASUREMENTS.items():
        rows[name] = measure(bench)
        print(f"| `{name}` | {rows[name]} |", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
