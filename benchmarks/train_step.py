"""CPU seconds of a training step against the released code's, written down plainly (``reference_step.py``).

    python benchmarks/train_step.py --size medium [--json FILE]      # a minute or two a round

Both sides train the same parts on the same batch with the same draws: losses, backward, clipping, AdamW. They take
turns within one process, so that a busy machine slows both; the ratio of each round counts. First their gradients are
compared. Then every exact switch is turned on alone in the plain step, which shows what each gives, and the parts of
the plain step are timed by themselves, which says how small the ratio could be with the same kernels: the share of what
no switch removes. Peak memory is that of a process of its own for each side.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from reference_step import IGNORED, Losses, Yardstick, plain_attention, plain_gates
from torch import Tensor, nn

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_datamodule, build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.editor import Editor, Objective
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.training.draws import draw
from mgie_lit.types import EditBatch, EditDraws, EditExample

TOLERANCE = 1e-4  # of gradients, relative to the largest
CLIP_NORM = 1.0
YARDSTICK, OURS, OURS_CACHED, OURS_NEW_ROWS = "yardstick", "no caches", "caches", "caches, new rows"
GOALS = {OURS: 0.80, OURS_CACHED: 0.55, OURS_NEW_ROWS: 0.50}
FUSED = "fused AdamW"
NOTHING = "nothing"  # libraries, model and batch, without a step
SIDES = ("ours", YARDSTICK, NOTHING)
# As the released code has it, whatever the size's own default is.
OVERRIDES = (
    "sampler=ddim",
    "trainable=paper",
    "effective_batch_size=null",
    "size.start.mllm=null",
    "size.start.diffusion=null",
    "size.tokenizer.source=small",
)
_ENCODER, _DECODER = ", ".join(["DownEncoderBlock2D"] * 4), ", ".join(["UpDecoderBlock2D"] * 4)
PLAIN_EDITOR = (  # size=tiny has an editor of another kind; here it gets one of the released kind
    "~size.autoencoder.patch_size",
    "~size.autoencoder.frequency_gain",
    "~size.autoencoder.colour_gain",
    "size.autoencoder._target_=diffusers.AutoencoderKL",
    "size.autoencoder.scaling_factor=0.18215",
    "+size.autoencoder.latent_channels=4",
    "+size.autoencoder.block_out_channels=[16, 16, 32, 32]",
    f"+size.autoencoder.down_block_types=[{_ENCODER}]",
    f"+size.autoencoder.up_block_types=[{_DECODER}]",
    "+size.autoencoder.norm_num_groups=8",
    "size.unet.in_channels=8",
    "size.unet.out_channels=4",
    "size.unet.class_embed_type=null",
    "size.unet.projection_class_embeddings_input_dim=null",
)
INSTRUCTION = "make the photo brighter"
EXPRESSIVE = "the photo is brighter , and the colours of the photo are a little warmer than before ."


@dataclass
class Case:
    """What both sides train on."""

    editor: Editor
    batch: EditBatch
    cached: EditBatch  # the same with latents and vision states in place of pixels
    draws: EditDraws
    objective: Objective


class Switched(Yardstick):
    """The plain step with some switches on.

    Args:
        editor: As of :class:`Yardstick`.
        on: Names of ``SWITCHES``.
        cached: Batch that brings latents and vision states.
    """

    def __init__(self, editor: Editor, on: set[str], cached: EditBatch) -> None:
        super().__init__(editor)
        self.on, self.cached = on, cached

    def _attention(self, *models: Any) -> Any:  # noqa: ANN401
        return plain_attention(*(() if "attention kernels" in self.on else models))

    def _gates(self, *models: nn.Module) -> Any:  # noqa: ANN401
        return plain_gates(*(() if "gates computed twice" in self.on else models))

    def _vision(self, pixels: Tensor) -> Tensor:
        if "cached vision states" in self.on:
            assert self.cached.vision_states is not None
            return self.cached.vision_states
        if "no idle layers of the tower" not in self.on:
            return super()._vision(pixels)
        states = self.tower.pre_layrnorm(self.tower.embeddings(pixels))
        for layer in self.tower.encoder.layers[: self.select_layer + 1 or None]:
            states = layer(states, None)
        return cast("Tensor", states[:, 1:])

    def _loss_ce(self, hidden: Tensor, labels: Tensor) -> Tensor:
        if "scores at labels only" not in self.on:
            return super()._loss_ce(hidden, labels)
        following = labels[:, 1:]
        where = following != IGNORED
        return nn.functional.cross_entropy(self.llm.lm_head(hidden[:, :-1][where]).float(), following[where])

    def _null(self, states: Tensor, rows: Tensor) -> Tensor:
        if "null condition once" not in self.on:
            return super()._null(states, rows)
        return self._head(torch.zeros_like(states[:1]), rows[:1])

    def _latents(self, batch: EditBatch, draws: EditDraws) -> tuple[Tensor, Tensor]:
        if "channels last in the autoencoder" in self.on:
            assert batch.source is not None
            assert batch.target is not None
            source, target = (each.to(memory_format=torch.channels_last) for each in (batch.source, batch.target))
            return super()._latents(replace(batch, source=source, target=target), draws)
        if "cached latents" not in self.on:
            return super()._latents(batch, draws)
        assert self.cached.source_latents is not None
        assert self.cached.target_mean is not None
        assert self.cached.target_std is not None
        clean = (self.cached.target_mean + self.cached.target_std * draws.latent_noise) * self.scaling
        return self.cached.source_latents, clean


SWITCHES = (
    "null condition once",
    "scores at labels only",
    "no idle layers of the tower",
    "attention kernels",
    "gates computed twice",
    "channels last in the autoencoder",
    FUSED,
    "cached latents",
    "cached vision states",
)


def make_case(size: str, batch_size: int, device: str) -> Case:
    """Editor with random weights, a batch of made-up pictures, and draws without dropped conditions.

    Args:
        size: Option of ``size``.
        batch_size: Examples.
        device: ``cpu`` or ``cuda``.

    Returns:
        Everything on the device; frozen parts in bfloat16 on a GPU.
    """
    config = case_config(size)
    torch.manual_seed(0)
    editor = build_editor(config).to(device)
    return fill_case(editor, config, batch_size)


def case_config(size: str, *overrides: str) -> DictConfig:
    """What the released code trains, in one of our sizes."""
    plain = PLAIN_EDITOR if size == "tiny" else ()
    return compose_config("train", [f"size={size}", *OVERRIDES, *plain, "data.num_examples.train=8", *overrides])


def fill_case(editor: Editor, config: DictConfig, batch_size: int, expressive: str = EXPRESSIVE) -> Case:
    """A batch for an editor, on its device.

    Args:
        editor: Of this config's size.
        config: Says at which resolution the pictures are.
        batch_size: Examples.
        expressive: What is written of each.
    """
    module = build_module(config, editor)
    examples = [made_up_example(index, int(config.size.resolution), expressive) for index in range(batch_size)]
    batch = build_datamodule(config, editor).collator(examples)
    shape = editor.batch_latent_shape(batch)
    draws = draw(batch.sample_ids, seed=0, epoch=0, latent_shape=shape, num_timesteps=1000)
    draws = replace(draws, condition_dropout=torch.full((batch_size,), 0.5))
    batch, draws = batch.to(editor.device), draws.to(editor.device)
    return Case(editor, batch, _cached(editor, batch), draws, module.objective)


def made_up_example(index: int, side: int, expressive: str = EXPRESSIVE) -> EditExample:
    """A smooth picture with a word more or less, so that rows have unequal lengths."""
    rng = np.random.default_rng(index)
    pair = []
    for _ in range(2):
        coarse = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
        pair.append(coarse.resize((side, side), Image.Resampling.BICUBIC))
    words = " ".join(expressive.split()[: len(expressive.split()) - index % 3])
    return EditExample(f"s{index}", pair[0], pair[1], INSTRUCTION, words)


@torch.no_grad()
def _cached(editor: Editor, batch: EditBatch) -> EditBatch:
    """What ``mgie prepare cache`` would bring."""
    assert batch.source is not None
    assert batch.target is not None
    assert batch.mllm_pixels is not None
    guide = cast("MLLMGuide", editor.guide)
    target = editor.autoencoder.encode(batch.target).latent_dist
    return replace(
        batch,
        source=None,
        target=None,
        mllm_pixels=None,
        source_latents=editor.autoencoder.encode(batch.source).latent_dist.mode(),
        target_mean=target.mean,
        target_std=target.std,
        vision_states=guide.mllm.vision_states(batch.mllm_pixels),
    )


Step = Callable[[], Tensor]


def our_step(case: Case, *, cached: bool = False) -> Step:
    """Our losses."""
    batch = case.cached if cached else case.batch
    return lambda: case.editor.losses(batch, case.draws, case.objective).loss


def plain_step(case: Case, on: Sequence[str] = ()) -> Step:
    """The released code's losses, with some switches on."""
    yardstick = Switched(case.editor, set(on), case.cached)
    losses: Callable[[], Losses] = lambda: yardstick.losses(case.batch, case.draws)  # noqa: E731
    return lambda: losses().loss


def run_step(case: Case, losses: Step, optimizer: torch.optim.Optimizer) -> None:
    """One optimizer step."""
    optimizer.zero_grad(set_to_none=True)
    losses().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trained(case.editor), CLIP_NORM)
    optimizer.step()


def trained(editor: Editor) -> list[nn.Parameter]:
    """What trains."""
    return [parameter for parameter in editor.parameters() if parameter.requires_grad]


def adamw(case: Case, *, fused: bool) -> torch.optim.Optimizer:
    """The optimizer of either side; a rate of zero, so that the weights stay what they are."""
    return torch.optim.AdamW(trained(case.editor), lr=0.0, weight_decay=0.0, fused=True if fused else None)


def largest_difference(case: Case, ours: Step, theirs: Step) -> tuple[float, str]:
    """Of all gradients, relative to each tensor's largest, and where it is."""
    sides = []
    for losses in (ours, theirs):
        case.editor.zero_grad(set_to_none=True)
        losses().backward()  # type: ignore[no-untyped-call]
        named = case.editor.named_parameters()
        sides.append({name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None})
    case.editor.zero_grad(set_to_none=True)
    mine, plain = sides
    assert mine.keys() == plain.keys()
    floor = TOLERANCE * max(float(grad.abs().max()) for grad in plain.values())
    apart = {name: float((mine[name] - g).abs().max()) / max(float(g.abs().max()), floor) for name, g in plain.items()}
    worst = max(apart, key=apart.__getitem__)
    return apart[worst], worst


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call, of all its threads."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(case: Case, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of a step of every variant, and of the parts of the plain step, round by round.

    Args:
        case: What is trained; its visual tokens' embeddings train alone afterwards.
        rounds: How often all take turns, after one round that does not count.

    Returns:
        By name; ``yardstick`` is the plain step, parts are those of ``Parts``.
    """
    plain, fused = adamw(case, fused=False), adamw(case, fused=True)
    guide, parts = cast("MLLMGuide", case.editor.guide), Parts(case)
    variants: dict[str, tuple[Step, torch.optim.Optimizer]] = {
        YARDSTICK: (plain_step(case), plain),
        **{name: (plain_step(case, [name]), fused if name == FUSED else plain) for name in SWITCHES},
        OURS: (our_step(case), fused),
        OURS_CACHED: (our_step(case, cached=True), fused),
        OURS_NEW_ROWS: (our_step(case, cached=True), fused),
    }
    times: dict[str, list[float]] = {name: [] for name in (*variants, *parts.calls)}
    for count in range(rounds + 1):
        for name, (losses, optimizer) in variants.items():
            guide.train_embeddings = "new_rows" if name == OURS_NEW_ROWS else "all"
            spent = seconds(lambda losses=losses, optimizer=optimizer: run_step(case, losses, optimizer))  # type: ignore[misc]
            if count:
                times[name].append(spent)
        run_step(case, variants[YARDSTICK][0], plain)  # gradients for the optimizer's part
        for name, call in parts.calls.items():
            spent = seconds(call)
            if count:
                times[name].append(spent)
    guide.train_embeddings = "all"
    return times


class Parts:
    """The plain step in parts, each with its backward where it has one.

    Args:
        case: What is trained.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.plain = case, Yardstick(case.editor)
        self.optimizer = adamw(case, fused=False)
        batch, draws = case.batch, case.draws
        with torch.no_grad():
            assert batch.mllm_pixels is not None
            self.embeddings = self.plain._spliced(batch.input_ids, batch.mllm_pixels)
            self.hidden = case.editor.guide.mllm(self.embeddings)  # type: ignore[operator, union-attr]
            self.states = self.plain._slices(self.hidden, batch.labels.tolist())
            self.text = self.plain._head(self.states, self.plain.visual_rows)
            self.latents = self.plain._latents(batch, draws)
        self.calls: dict[str, Callable[[], object]] = {
            "vision tower": self._tower,
            "language model": self._language,
            "language model, forward": self._language_forward,
            "scores and cross entropy": self._scores,
            "autoencoder": self._autoencoder,
            "edit head": self._head,
            "UNet": self._unet,
            "optimizer": self.optimizer.step,
        }

    @staticmethod
    def names(times: dict[str, list[float]]) -> list[str]:
        """Those of the parts among all that was measured."""
        variants = {YARDSTICK, *SWITCHES, OURS, OURS_CACHED, OURS_NEW_ROWS}
        return [name for name in times if name not in variants]

    @torch.no_grad()
    def _tower(self) -> None:
        assert self.case.batch.mllm_pixels is not None
        self.plain._vision(self.case.batch.mllm_pixels)

    def _language(self) -> None:
        embeddings = self.embeddings.clone().requires_grad_()
        with plain_attention(self.plain.llm):
            states = self.plain.llm.model(inputs_embeds=embeddings, output_hidden_states=True).hidden_states[-1]
        states.sum().backward()

    @torch.no_grad()
    def _language_forward(self) -> None:
        self.plain.llm.model(inputs_embeds=self.embeddings)

    def _scores(self) -> None:
        hidden = self.hidden.clone().requires_grad_()
        self.plain._loss_ce(hidden, self.case.batch.labels).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _autoencoder(self) -> None:
        self.plain._latents(self.case.batch, self.case.draws)

    def _head(self) -> None:
        states, rows = self.states.clone().requires_grad_(), self.plain.visual_rows.expand(len(self.states), -1, -1)
        (self.plain._head(states, rows) + self.plain._null(states, rows)).sum().backward()  # type: ignore[no-untyped-call]

    def _unet(self) -> None:
        text, draws = self.text.clone().requires_grad_(), self.case.draws
        inputs = torch.cat([draws.noise, self.latents[0]], dim=1)
        self.plain.unet(inputs, draws.timesteps, encoder_hidden_states=text)[0].square().mean().backward()


def bounds(case: Case, times: dict[str, list[float]]) -> dict[str, float]:
    """The smallest ratio that the switches allow, from the medians of the parts.

    What stays without caches: the language model, the UNet, the optimizer, the autoencoder, the layers of the tower
    that are read, the scores of labelled positions, and one null condition instead of one a sample. Caches take tower
    and autoencoder away; with new rows alone the language model needs no backward but for the last few tokens.
    """
    part = {name: float(np.median(times[name])) for name in Parts.names(times)}
    whole = sum(seconds for name, seconds in part.items() if name != "language model, forward")
    size, batch = len(case.batch), case.batch
    assert batch.label_positions is not None
    layers = case.editor.guide.mllm.vision_tower.config.num_hidden_layers  # type: ignore[union-attr]
    used = 1 - len([name for name in case.editor.guide.mllm.idle_patterns if "layers" in name]) / layers  # type: ignore[union-attr]
    labelled = len(batch.label_positions) / batch.labels[:, 1:].numel()
    trained_parts = part["scores and cross entropy"] * labelled + part["edit head"] * (size + 1) / (2 * size)
    always = trained_parts + part["UNet"] + part["optimizer"]
    frozen = part["autoencoder"] + part["vision tower"] * used
    return {
        OURS: (always + part["language model"] + frozen) / whole,
        OURS_CACHED: (always + part["language model"]) / whole,
        OURS_NEW_ROWS: (always + part["language model, forward"]) / whole,
    }


def ratio(times: dict[str, list[float]], name: str, plain: str = YARDSTICK) -> dict[str, float]:
    """A variant's time over the plain one's, round by round: median, and tenths from both ends."""
    values = np.array(times[name]) / np.array(times[plain])
    return {key: round(float(np.quantile(values, q)), 3) for key, q in (("median", 0.5), ("p10", 0.1), ("p90", 0.9))}


def peak_bytes(script: str, *arguments: str) -> int:
    """What a script prints last, started in a process of its own: its largest resident memory in bytes."""
    command = [sys.executable, script, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.splitlines()[-1])


def high_water_bytes() -> int:
    """Largest memory of this process so far, on the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage would count the parent's memory, too
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run_only(case: Case, side: str) -> int:
    """Two steps of one side, or none; the process's peak in bytes."""
    losses = plain_step(case) if side == YARDSTICK else our_step(case)
    optimizer = adamw(case, fused=side != YARDSTICK)
    for _ in range(0 if side == NOTHING else 2):
        run_step(case, losses, optimizer)
    return high_water_bytes()


def report(case: Case, size: str, times: dict[str, list[float]], apart: float, peaks: dict[str, int]) -> dict[str, Any]:
    """Everything measured, as plain values."""
    median = {name: round(float(np.median(values)), 4) for name, values in times.items()}
    limit = bounds(case, times)
    return {
        "size": size,
        "ratio": ratio(times, OURS),
        "cpu_s": {"ours": median[OURS], "yardstick": median[YARDSTICK]},
        "switches": [{"name": name, "ratio": ratio(times, name)} for name in SWITCHES],
        "variants": [
            {"name": name, "ratio": ratio(times, name), "bound": round(limit[name], 3), "goal": goal}
            for name, goal in GOALS.items()
        ],
        "parts_s": {name: median[name] for name in Parts.names(times)},
        "gradient_difference": apart,
        "peak_memory": {**peaks, "ratio": round(peaks["ours"] / peaks["yardstick"], 3)},
        "batch": {"examples": len(case.batch), "length": case.batch.input_ids.shape[1], "labels": _num_labels(case)},
        "rounds": len(times[OURS]),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "diffusers")},
        "threads": torch.get_num_threads(),
    }


def _num_labels(case: Case) -> int:
    assert case.batch.label_positions is not None
    return len(case.batch.label_positions)


def render(result: dict[str, Any]) -> str:
    """The result as Markdown tables."""
    batch = result["batch"]
    lines = [
        f"size={result['size']}, {batch['examples']} examples of {batch['length']} tokens with {batch['labels']} "
        f"labels, {result['rounds']} rounds, {result['threads']} thread(s). The plain step takes "
        f"{result['cpu_s']['yardstick']:.2f} CPU seconds. Largest relative difference of a gradient: "
        f"{result['gradient_difference']:.1e}.",
        "",
        "| ours | CPU seconds over the plain step's, median [p10, p90] | bound | goal |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['name']} | {spread(row['ratio'])} | {row['bound']:.2f} | {row['goal']:.2f} |"
        for row in result["variants"]
    ]
    lines += ["", "| one switch alone, in the plain step | ratio |", "| --- | --- |"]
    lines += [f"| {row['name']} | {spread(row['ratio'])} |" for row in result["switches"]]
    lines += ["", "| part of the plain step | CPU seconds |", "| --- | --- |"]
    lines += [f"| {name} | {spent:.3f} |" for name, spent in result["parts_s"].items()]
    peak = result["peak_memory"]
    mebibytes = [f"{peak[side] / 2**20:.0f}" for side in SIDES]
    lines += [
        "",
        f"Peak memory of the process: {mebibytes[0]} MiB against {mebibytes[1]}, {peak['ratio']:.2f}; {mebibytes[2]} "
        "MiB of both are libraries, model and batch before the first step.",
    ]
    return "\n".join(lines)


def spread(row: dict[str, float]) -> str:
    """A ratio as text."""
    return f"{row['median']:.2f} [{row['p10']:.2f}, {row['p90']:.2f}]"


def main() -> None:
    """Measure, print, and fail where gradients differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="medium", choices=("tiny", "medium"), help="sizes of all parts")
    parser.add_argument("--batch-size", type=int, default=4, help="examples")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--only", choices=SIDES, help="two steps of one side; prints its peak memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = make_case(options.size, options.batch_size, "cpu")
    if options.only:
        print(run_only(case, options.only))
        return
    apart, where = largest_difference(case, our_step(case), plain_step(case))
    if not apart <= TOLERANCE:
        raise SystemExit(f"gradients differ by {apart:.1e} of the largest, in {where}; expected at most {TOLERANCE}")
    times = measure(case, options.rounds)
    arguments = ("--size", options.size, "--batch-size", str(options.batch_size))
    peaks = {side: peak_bytes(__file__, *arguments, "--only", side) for side in SIDES}
    result = report(case, options.size, times, apart, peaks)
    print(render(result))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
