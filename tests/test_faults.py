"""Every fault of the released code, on and off: what it does to a number, and that the default repairs it.

`docs/numerics.md` names these tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.config.build import build_editor, build_faults
from mgie_lit.config.build_training import build_datamodule, build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.config.start import load_start
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.order import ShuffledOrder
from mgie_lit.data.transforms import INTERMEDIATE_SIDE, PairTransform, TwoStepTransform
from mgie_lit.data.windows import WindowedLoader
from mgie_lit.editor import Editor
from mgie_lit.faults import RELEASED, Faults
from mgie_lit.functional.losses import instruction_loss
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.prompts import NO_VISUAL_TOKENS, EditPrompt
from mgie_lit.sampling.edit import SamplingOptions, edit_images
from mgie_lit.testing.random_data import RandomDataset, random_batch, random_example, random_image, tiny_collator
from mgie_lit.testing.tiny_models import (
    VISION_SIZE,
    tiny_editor,
    tiny_guide,
    tiny_kl_autoencoder,
    tiny_mllm,
    tiny_prompt,
    tiny_unet,
)
from mgie_lit.vocabulary import IGNORE_INDEX, NUM_VISUAL_TOKENS

CONF = Path(__file__).resolve().parents[1] / "conf"


def with_faults(thing: Any, **faults: bool) -> Any:  # noqa: ANN401
    """The same guide, prompt, editor or collator with some faults on."""
    thing.faults = Faults(**faults)
    return thing


def test_each_fault_is_a_key_and_repaired_unless_asked_for() -> None:
    names = {field.name for field in fields(Faults)}
    assert set(OmegaConf.load(CONF / "faults" / "default.yaml")) == {"_target_", *names}
    assert not any(asdict(build_faults(compose_config("train", []))).values())
    assert build_faults(compose_config("train", ["preset=released"])) == RELEASED
    assert build_faults(compose_config("train", ["preset=paper"])) == RELEASED
    assert all(asdict(RELEASED).values())


def test_each_fault_reaches_the_parts_that_a_config_builds() -> None:
    config = compose_config("train", ["preset=released", "faults.half_vision_tower=false", "effective_batch_size=null"])
    editor = build_editor(config)
    guide: Any = editor.guide
    datamodule = build_datamodule(config, editor)
    expected = replace(RELEASED, half_vision_tower=False)
    module = build_module(config, editor)
    for part in (editor, guide, guide.prompt, datamodule, datamodule.collator, module):
        assert part.faults == expected, type(part).__name__
    assert isinstance(datamodule.collator.transform, TwoStepTransform)


def test_presets_have_the_numbers_of_their_source() -> None:
    rates = {}
    for preset, batch, epochs in (("released", 32, 40), ("paper", 128, None), ("fixed", 128, None)):
        config = compose_config("train", [f"preset={preset}", "data.batch_size=4", "trainer.devices=8"])
        assert config.effective_batch_size == batch
        assert config.trainer.accumulate_grad_batches == batch // 32
        assert config.trainer.get("max_epochs") == epochs
        assert config.trainer.gradient_clip_val == 1.0
        assert (config.schedule.warmup_ratio, config.schedule.final_ratio) == (0.03, 0.0)
        scale = config.optimizer.lr_scale
        rates[preset] = [config.optimizer.lr * scale[name] for name in ("embeddings", "lm_head", "edit_head", "unet")]
    assert rates["released"] == [5e-4] * 4
    assert rates["paper"] == rates["fixed"] == pytest.approx([5e-4] * 3 + [1e-4])


# ------------------------------------------------------------------------------------------------- start of a training


def start_from(folder: Path, editor: Editor, faults: Faults) -> None:
    start = {"mllm": None, "vision": None, "edit_head": None, "diffusion": str(folder)}
    load_start(editor, editor.guide, OmegaConf.create({"size": {"start": start}}), faults)


@pytest.mark.parametrize("on", [True, False])
def test_redraw_linear(on: bool, tmp_path: Path) -> None:
    """Every linear layer of UNet and autoencoder, and nothing else of what was loaded."""
    torch.manual_seed(0)
    unet, autoencoder = tiny_unet(4, 4), tiny_kl_autoencoder()
    unet.save_pretrained(tmp_path / "unet")
    autoencoder.save_pretrained(tmp_path / "vae")
    editor = tiny_editor("kl")
    start_from(tmp_path, editor, Faults(redraw_linear=on))
    for loaded, part in ((unet, editor.unet), (autoencoder, editor.autoencoder)):
        pretrained = loaded.state_dict()
        linear = {name for name, layer in part.named_modules() if isinstance(layer, nn.Linear)}
        changed = {
            name.rpartition(".")[0] for name, value in part.state_dict().items() if value.ne(pretrained[name]).any()
        }
        assert len(linear) > 0
        assert changed == (linear if on else set())
        if on:
            weights = torch.cat([part.get_submodule(name).weight.detach().flatten() for name in linear])
            assert weights.std().item() == pytest.approx(0.02, rel=0.1)


def test_redraw_linear_spares_a_trained_mgie(tmp_path: Path) -> None:
    config = compose_config("train", [f"size.start.{part}={TINY_DIR}" for part in ("mllm", "edit_head", "diffusion")])
    plain = build_editor(config)
    config.faults.redraw_linear = True
    kept = build_editor(config)
    assert torch.equal(kept.unet.time_embedding.linear_1.weight, plain.unet.time_embedding.linear_1.weight)
    assert torch.equal(kept.guide.edit_head.hid2feat.weight, plain.guide.edit_head.hid2feat.weight)  # type: ignore[union-attr]


def test_redraw_linear_from_a_config() -> None:
    plain, redrawn = (
        build_editor(compose_config("train", [f"faults.redraw_linear={on}"])).guide.edit_head
        for on in ("false", "true")
    )
    assert redrawn.hid2feat.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not redrawn.hid2feat.bias.any()
    assert plain.hid2feat.weight.std() > 0.05
    assert torch.equal(plain.query, redrawn.query)


@pytest.mark.parametrize("on", [True, False])
def test_random_conv_in_bias(on: bool, tmp_path: Path) -> None:
    """From a folder with Stable Diffusion's four input channels."""
    pretrained = tiny_unet(2, 4)
    pretrained.save_pretrained(tmp_path / "unet")
    tiny_kl_autoencoder().save_pretrained(tmp_path / "vae")
    editor = tiny_editor("kl")
    start_from(tmp_path, editor, Faults(random_conv_in_bias=on))
    assert torch.equal(editor.unet.conv_in.weight[:, :4], pretrained.conv_in.weight)
    assert not editor.unet.conv_in.weight[:, 4:].any()
    assert torch.equal(editor.unet.conv_in.bias, pretrained.conv_in.bias) is not on


@pytest.mark.parametrize("on", [True, False])
def test_half_vision_tower(on: bool) -> None:
    editor = build_editor(compose_config("train", [f"faults.half_vision_tower={str(on).lower()}"]))
    tower = editor.guide.mllm.vision_tower  # type: ignore[union-attr]
    assert tower.dtype == (torch.float16 if on else torch.float32)
    features = editor.guide.mllm.image_features(torch.zeros(1, 3, 64, 64))  # type: ignore[union-attr]
    assert features.dtype == torch.float32


def test_half_vision_tower_under_autocast() -> None:
    """Its own type wins: a mix of both is refused by torch."""
    mllm = tiny_mllm(3)
    pixels = torch.randn(1, 3, VISION_SIZE, VISION_SIZE)
    full = mllm.vision_states(pixels)
    mllm.vision_tower.half()  # type: ignore[union-attr, no-untyped-call]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = mllm.vision_states(pixels)
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), full, atol=0.05)


# -------------------------------------------------------------------------------------------------------- rows of text


def prompt_with(max_length: int = 96, **faults: bool) -> EditPrompt:
    return with_faults(tiny_prompt(max_length=max_length), **faults)


def test_cut_visual_tokens() -> None:
    whole = prompt_with().training_row("warmer", "warm light " * 9)
    length = len(whole.input_ids) - 5  # cuts within the visual tokens
    cut = prompt_with(length, cut_visual_tokens=True).training_row("warmer", "warm light " * 9)
    assert (cut.input_ids, cut.labels) == (whole.input_ids[:length], whole.labels[:length])
    assert cut.visual_token_start == whole.visual_token_start
    shorter = prompt_with(length - 6, cut_visual_tokens=True).training_row("warmer", "warm light " * 9)
    assert shorter.visual_token_start == NO_VISUAL_TOKENS
    repaired = prompt_with(length).training_row("warmer", "warm light " * 9)
    assert repaired.input_ids[-NUM_VISUAL_TOKENS - 1 :] == whole.input_ids[-NUM_VISUAL_TOKENS - 1 :]
    assert len(repaired.input_ids) == length


@pytest.mark.parametrize("text", ["he said ASSISTANT: yes", "the end</s>"])
def test_ignore_odd_texts(text: str) -> None:
    odd = prompt_with(ignore_odd_texts=True).training_row("warmer", text)
    assert set(odd.labels) == {IGNORE_INDEX}
    assert odd.visual_token_start == NO_VISUAL_TOKENS
    repaired = prompt_with().training_row("warmer", text)
    assert repaired.input_ids == odd.input_ids
    assert repaired.labels[-1] == repaired.input_ids[-1]
    assert repaired.visual_token_start > 0


def test_mask_unknown_tokens() -> None:
    guide = tiny_guide()
    unknown = guide.prompt.tokenizer.pad_token_id
    collator = tiny_collator(guide)
    row = collator.prompt.training_row("warmer", "warm light")
    ids = [*row.input_ids[:2], unknown, *row.input_ids[3:]]
    faulty = EditCollator(
        collator.prompt, collator.image_processor, collator.transform, faults=Faults(mask_unknown_tokens=True)
    )
    for each, expected in ((collator, True), (faulty, False)):
        each._row = lambda example: replace(row, input_ids=ids)  # type: ignore[method-assign]
        assert bool(each([random_example(0)]).attention_mask[0, 2]) is expected


# ---------------------------------------------------------------------------------------------------- instruction loss


def test_nan_without_labels() -> None:
    logits, labels = torch.randn(4, 7), torch.full((4,), IGNORE_INDEX)
    assert instruction_loss(logits, labels, nan_without_labels=True).isnan()
    assert instruction_loss(logits, labels) == 0
    labels[1] = 3
    assert torch.equal(instruction_loss(logits, labels, nan_without_labels=True), instruction_loss(logits, labels))


def test_nan_without_labels_reaches_the_guide() -> None:
    editor = tiny_editor()
    batch = replace(random_batch(editor), labels=torch.full_like(random_batch(editor).labels, IGNORE_INDEX))
    assert editor.guide.losses(batch).loss_lm == 0  # type: ignore[operator]
    with_faults(editor.guide, nan_without_labels=True)
    assert editor.guide.losses(batch).loss_lm.isnan()  # type: ignore[operator]


def test_local_label_mean() -> None:
    """Micro-batches with unequal numbers of labels: their mean is that of the whole batch, or not."""
    editor = tiny_editor()
    whole = editor.guide.losses(random_batch(editor, range(4))).loss_lm  # type: ignore[operator]
    means = {}
    for window in (1, 2):
        loader = WindowedLoader(
            RandomDataset("train", 4), batch_size=2, collate_fn=tiny_collator(editor.guide), window=window
        )  # type: ignore[arg-type]
        losses = [editor.guide.losses(batch).loss_lm for batch in loader]  # type: ignore[operator]
        assert len(losses) == 2
        means[window] = sum(losses) / 2
    assert torch.allclose(means[2], whole, rtol=1e-5)
    assert not torch.allclose(means[1], whole, rtol=1e-5)


def test_local_label_mean_from_a_config() -> None:
    overrides = ["effective_batch_size=8", "data.batch_size=4", "data.num_examples.train=16"]
    for on, window in ((False, 2), (True, 1)):
        config = compose_config("train", [*overrides, f"faults.local_label_mean={str(on).lower()}"])
        loader = build_datamodule(config, build_editor(config)).train_dataloader()
        assert loader.window == window
        counts = [batch.labels_per_batch for batch in loader]
        assert len(counts) == 4
        assert [count is None for count in counts] == [on] * 4


# -------------------------------------------------------------------------------------------- reading the visual tokens


@pytest.fixture
def guide() -> Iterator[MLLMGuide]:
    guide = tiny_guide().eval()
    with torch.no_grad():
        yield guide


def slice_start(guide: MLLMGuide, start: int, length: int) -> int:
    hidden = torch.arange(float(length))[None, :, None]
    return int(guide._visual_states(hidden, torch.tensor([start]))[0, 0, 0])


def test_clamp_slice(guide: MLLMGuide) -> None:
    """The recorded truncated batch: 90 tokens, ``[IMG0]`` at 84 and nowhere."""
    assert slice_start(guide, 80, 90) == 79
    with_faults(guide, clamp_slice=True)
    assert slice_start(guide, 80, 90) == 79
    assert slice_start(guide, 84, 90) == 81
    assert slice_start(guide, NO_VISUAL_TOKENS, 90) == 81


def test_repaired_slice_is_where_the_visual_tokens_are(guide: MLLMGuide) -> None:
    """The end of the longest row is no limit: its last state is that of ``</s>``."""
    row = guide.prompt.training_row("warmer", "warm light")
    assert slice_start(guide, row.visual_token_start, len(row.input_ids)) == len(row.input_ids) - NUM_VISUAL_TOKENS - 2


def force_to_write(guide: MLLMGuide, ids: list[int], instruction: str) -> None:
    """Solve LM head rows so that greedy decoding after the prompt writes these ids (as the recordings were made)."""
    prompt = guide.prompt.prompt_ids(instruction)
    row = torch.tensor([prompt + ids])
    embeddings = guide.mllm.embed(row, guide.pixels([random_image(16, 16, seed=0)]))
    hidden = guide.mllm(embeddings, torch.ones_like(row, dtype=torch.bool))[0, len(prompt) - 1 : -1]
    wanted = sorted(set(ids))
    target = torch.full((len(ids), len(wanted)), -50.0)
    for position, index in enumerate(ids):
        target[position, wanted.index(index)] = 50.0
    guide.mllm.language_model.lm_head.weight.zero_()
    guide.mllm.language_model.lm_head.weight[wanted] = torch.linalg.lstsq(hidden, target).solution.T


def test_free_visual_tokens(guide: MLLMGuide) -> None:
    prompt = guide.prompt
    guide.max_new_tokens = 20
    words, end = prompt.encode("warm light"), prompt.tokenizer.eos_token_id
    cases = {
        "all": [*words, *prompt.visual_ids, end],
        "first": [*words, prompt.visual_ids[0], end],
        "none": [*words, end],
    }
    question = prompt.prompt_ids("warmer")
    images = guide.look([random_image(16, 16, seed=0)])
    pixels = images.pixels
    for name, answer in cases.items():
        force_to_write(guide, answer, "warmer")
        with_faults(guide, free_visual_tokens=True, clamp_slice=True)
        conversation = guide.begin([question], images)
        assert guide.write(conversation) == [answer]
        num_states = len(question) + len(answer) - 1
        start = len(question) + len(words) - 1 if name == "all" else num_states - NUM_VISUAL_TOKENS - 1
        start = min(start, num_states - NUM_VISUAL_TOKENS - 1)
        row = torch.tensor([[*question, *answer[:-1]]])
        hidden = guide.mllm(guide.mllm.embed(row, pixels), torch.ones_like(row, dtype=torch.bool))
        released = guide.read(conversation, [answer])
        assert torch.allclose(released, hidden[:, start : start + NUM_VISUAL_TOKENS], atol=1e-5)
        with_faults(guide)
        conversation = guide.begin([question], images)
        assert guide.write(conversation) == [words]
        row = torch.tensor([[*question, *words, *prompt.visual_ids]])
        hidden = guide.mllm(guide.mllm.embed(row, pixels), torch.ones_like(row, dtype=torch.bool))
        repaired = guide.read(conversation, [words])
        assert torch.allclose(repaired, hidden[:, -NUM_VISUAL_TOKENS - 1 : -1], atol=1e-5)


def test_free_visual_tokens_and_a_spent_budget(guide: MLLMGuide) -> None:
    """The text ends with the budget and no visual token was written: all eight are there after the repair."""
    guide.max_new_tokens = 4
    prompt = guide.prompt.prompt_ids("warmer")
    force_to_write(guide, guide.prompt.encode("warm light and the dark parts")[:4], "warmer")
    images = guide.look([random_image(16, 16, seed=0)])
    pixels = images.pixels
    conversation = guide.begin([prompt], images)
    written = guide.write(conversation)
    assert len(written[0]) == 4
    row = torch.tensor([[*prompt, *written[0], *guide.prompt.visual_ids]])
    hidden = guide.mllm(guide.mllm.embed(row, pixels), torch.ones_like(row, dtype=torch.bool))
    repaired = guide.read(conversation, written)
    assert torch.allclose(repaired, hidden[:, -NUM_VISUAL_TOKENS - 1 : -1], atol=1e-5)
    with_faults(guide, free_visual_tokens=True, clamp_slice=True)
    conversation = guide.begin([prompt], images)
    assert not torch.allclose(guide.read(conversation, guide.write(conversation)), repaired, atol=1e-3)


def test_ban_prompt_ngrams(guide: MLLMGuide) -> None:
    words = guide.prompt.encode("make it much warmer and brighter")
    assert len(words) >= 4
    force_to_write(guide, [*words[:4], guide.prompt.tokenizer.eos_token_id], "make it much warmer and brighter")
    question = guide.prompt.prompt_ids("make it much warmer and brighter")
    images = guide.look([random_image(16, 16, seed=0)])
    assert guide.write(guide.begin([question], images)) == [words[:4]]
    with_faults(guide, ban_prompt_ngrams=True)
    (written,) = guide.write(guide.begin([question], images))
    assert written[:2] == words[:2]
    assert written[2:3] != words[2:3]


def test_demo_tokens() -> None:
    """A line break before the image, and one blank more after it (the recorded ids: benchmarks/parity.py)."""
    plain, demo = (prompt_with(demo_tokens=on) for on in (False, True))
    row = plain.training_row("warmer", "warm light")
    assert plain.prompt_ids("warmer") == row.input_ids[: len(plain.prompt_ids("warmer"))]
    assert demo.training_row("warmer", "warm light") == row
    image = plain.image_ids
    before = demo.prompt_ids("warmer").index(image[0])
    assert demo.prompt_ids("warmer")[1:before] == demo.encode(f"USER: {demo.query.format(instruction='warmer')}\n")


# ------------------------------------------------------------------------------------------- pictures and their order


def test_two_step_resize() -> None:
    example = replace(random_example(0), source=random_image(61, 40, seed=1), target=random_image(60, 40, seed=2))
    cut = TwoStepTransform(24)(example)
    square = example.source.crop((10, 0, 50, 40)).resize((512, 512), Image.Resampling.BICUBIC)
    assert cut.source.tobytes() == square.resize((24, 24), Image.Resampling.BICUBIC).tobytes()
    assert TwoStepTransform(24).views(example)[1].tobytes() == square.tobytes()
    assert square.width == INTERMEDIATE_SIDE
    repaired = PairTransform(24)(example)
    assert repaired.source.tobytes() != cut.source.tobytes()
    cut, seen = PairTransform(24).views(example)
    assert seen is cut.source
    assert cut.target is not None
    assert cut.target.size == (24, 24)


class SeenSizes:
    """Stands before a guide and keeps the sizes of what it is shown."""

    def __init__(self, editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[tuple[int, int]] = []
        original = editor.guide.condition

        def condition(sources: Any, instructions: Any) -> Any:  # noqa: ANN401
            self.sizes += [source.size for source in sources]
            return original(sources, instructions)

        monkeypatch.setattr(editor.guide, "condition", condition)


@pytest.mark.parametrize("on", [True, False])
def test_demo_images(on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = with_faults(tiny_editor(), demo_images=on)
    seen = SeenSizes(editor, monkeypatch)
    options = SamplingOptions(resolution=16, num_inference_steps=1, guidance_scale=1.0, image_guidance_scale=1.0)
    generators = [torch.Generator().manual_seed(0)]
    latents = torch.zeros(1, 4, 9, 18) if on else None  # 37 x 19 pixels, cut down to multiples of 2
    (edited,) = edit_images(
        editor, [random_image(37, 19, seed=0)], ["warmer"], options=options, generators=generators, latents=latents
    )
    assert edited.image.size == ((36, 18) if on else (37, 19))
    assert seen.sizes == ([(37, 19)] if on else [(24, 12)])


def test_overlapping_ranks() -> None:
    for overlapping in (True, False):
        shares = [
            list(ShuffledOrder(40, seed=0, rank=rank, world_size=2, overlapping=overlapping)) for rank in range(2)
        ]
        assert [len(set(share)) for share in shares] == [20, 20], "no process sees an example twice"
        assert bool(set(shares[0]) & set(shares[1])) is overlapping
