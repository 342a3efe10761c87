from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from diffusers import AutoencoderKL

from mgie_lit.editor import Editor, Objective
from mgie_lit.models.autoencoder import PatchAutoencoder
from mgie_lit.testing.random_data import RESOLUTION, random_batch, random_draws
from mgie_lit.testing.tiny_models import tiny_editor, tiny_kl_autoencoder, tiny_scheduler, tiny_unet
from mgie_lit.types import EditBatch, EditDraws

NO_DROPOUT = Objective(dropout_text_prob=0.0, dropout_both_prob=0.0, dropout_image_prob=0.0)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return tiny_editor("kl")


@pytest.fixture(scope="module")
def batch(editor: Editor) -> EditBatch:
    return random_batch(editor)


@pytest.fixture
def draws(editor: Editor, batch: EditBatch) -> EditDraws:
    return random_draws(editor, batch)


class Spy:
    """Stands before a UNet and keeps what it was given."""

    def __init__(self, editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        original = editor.predict

        def predict(noisy: Any, source: Any, timesteps: Any, condition: Any) -> Any:  # noqa: ANN401
            self.calls.append({"noisy": noisy, "source": source, "timesteps": timesteps, "condition": condition})
            return original(noisy, source, timesteps, condition)

        monkeypatch.setattr(editor, "predict", predict)


def test_source_is_the_unscaled_mode_and_target_a_scaled_noised_sample(
    editor: Editor, batch: EditBatch, draws: EditDraws, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(editor, monkeypatch)
    editor.losses(batch, draws, NO_DROPOUT)
    (call,) = spy.calls
    autoencoder = editor.autoencoder
    assert isinstance(autoencoder, AutoencoderKL)
    with torch.no_grad():
        source = autoencoder.encode(batch.source).latent_dist.mode()
        target = autoencoder.encode(batch.target).latent_dist
        clean = (target.mean + target.std * draws.latent_noise) * 0.18215
    assert torch.allclose(call["source"], source, atol=1e-6)
    alpha = editor.scheduler.alphas_cumprod[draws.timesteps][:, None, None, None]
    assert torch.allclose(call["noisy"], alpha.sqrt() * clean + (1 - alpha).sqrt() * draws.noise, atol=1e-6)
    assert torch.equal(call["timesteps"], draws.timesteps)


def test_dropout_takes_text_and_image_from_the_samples_that_are_drawn(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draws of the released code's boundary cases, and what it did with them."""
    batch = random_batch(editor, range(6))
    draws = random_draws(editor, batch)
    spy = Spy(editor, monkeypatch)
    editor.losses(batch, draws, NO_DROPOUT)
    editor.losses(
        batch, replace(draws, condition_dropout=torch.tensor([0.02, 0.05, 0.0999, 0.1, 0.15, 0.9])), Objective()
    )
    kept, dropped = spy.calls
    null = editor.guide.losses(batch).null
    for row, (drops_text, drops_image) in enumerate(
        [(True, False), (True, True), (True, True), (False, True), (False, False), (False, False)]
    ):
        expected_text = null[0] if drops_text else kept["condition"][row]
        expected_source = torch.zeros_like(kept["source"][row]) if drops_image else kept["source"][row]
        assert torch.equal(dropped["condition"][row], expected_text), row
        assert torch.equal(dropped["source"][row], expected_source), row
    assert torch.equal(dropped["noisy"], kept["noisy"])


def test_loss_is_the_weighted_sum(batch: EditBatch, draws: EditDraws) -> None:
    editor = tiny_editor("kl", align=True)
    weights = {"loss_edit_weight": 0.25, "loss_lm_weight": 0.5, "loss_align_weight": 3.0}
    losses = editor.losses(batch, draws, Objective(**weights))
    assert losses.loss_lm is not None
    assert losses.loss_align is not None
    assert torch.allclose(losses.loss, 0.5 * losses.loss_lm + 0.25 * losses.loss_edit + 3.0 * losses.loss_align)


def test_defaults_are_the_paper_s(editor: Editor, batch: EditBatch, draws: EditDraws) -> None:
    losses = editor.losses(batch, draws, Objective())
    assert losses.loss_lm is not None
    assert losses.loss_align is None
    assert torch.allclose(losses.loss, losses.loss_lm + 0.5 * losses.loss_edit)
    objective = Objective()
    assert [objective.dropout_text_prob, objective.dropout_both_prob, objective.dropout_image_prob] == [0.05] * 3


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_edit_loss_of_a_perfect_prediction_is_zero(
    prediction_type: Literal["epsilon", "v_prediction", "sample"], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tiny_editor("kl", prediction_type=prediction_type)
    batch = random_batch(editor)
    draws = random_draws(editor, batch)
    with torch.no_grad():
        target = editor.autoencoder.encode(batch.target).latent_dist
        clean = (target.mean + target.std * draws.latent_noise) * 0.18215
    alpha = editor.scheduler.alphas_cumprod[draws.timesteps][:, None, None, None]
    perfect = {
        "epsilon": draws.noise,
        "sample": clean,
        "v_prediction": alpha.sqrt() * draws.noise - (1 - alpha).sqrt() * clean,
    }
    for name, preds in perfect.items():
        monkeypatch.setattr(editor, "predict", lambda *_, preds=preds: preds)
        loss = editor.losses(batch, draws, NO_DROPOUT).loss_edit
        assert (loss.item() < 1e-10) == (name == prediction_type), name


def test_target_variance_is_a_unit(editor: Editor, batch: EditBatch, draws: EditDraws) -> None:
    plain = editor.losses(batch, draws, NO_DROPOUT).loss_edit
    scaled = editor.losses(batch, draws, replace(NO_DROPOUT, target_variance=0.25)).loss_edit
    assert torch.allclose(scaled, 4 * plain)


def test_losses_are_a_function_of_their_arguments(editor: Editor, batch: EditBatch, draws: EditDraws) -> None:
    first = editor.losses(batch, draws, Objective())
    torch.manual_seed(99)
    assert torch.equal(editor.losses(batch, draws, Objective()).loss, first.loss)


def test_untrained_affine_head_copies_the_source() -> None:
    """Whatever noise and words it gets; the source latents have another scale than the target's."""
    editor = tiny_editor("patch")
    assert editor.source_scale != editor.latent_scale
    batch = random_batch(editor)
    source = editor.encode_source(batch.source)
    preds = editor.predict(torch.randn_like(source), source, torch.tensor([0, 20, 49]), torch.randn(3, 6, 20))
    assert torch.allclose(editor.decode(preds), batch.source, atol=1e-5)


def test_gain_and_bias_act_on_the_source_in_units_of_the_target() -> None:
    editor = tiny_editor("patch")
    batch = random_batch(editor)
    source = editor.encode_source(batch.source)
    torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.1)
    given = (torch.randn_like(source), source, torch.tensor([0, 20, 49]), torch.randn(3, 6, 20))
    gain, bias = editor.unet(
        torch.cat(given[:2], 1), given[2], given[3], class_labels=given[3].mean(1), return_dict=False
    )[0].chunk(2, 1)
    same_units = source / 0.5 * 0.8
    assert torch.allclose(editor.predict(*given), same_units * (1 + gain) + bias, atol=1e-5)


@pytest.mark.parametrize("codec", ["kl", "patch"])
def test_encoding_and_decoding_know_the_shapes(codec: Literal["kl", "patch"]) -> None:
    editor = tiny_editor(codec)
    source = torch.rand(2, 3, 8, 12) * 2 - 1
    latents = editor.encode_source(source)
    assert latents.shape == (2, *editor.latent_shape(8, 12))
    assert editor.decode(latents).shape == source.shape
    assert editor.size_multiple == 4  # two pixels a latent, two latents at the UNet's bottom


@pytest.mark.parametrize("codec", ["kl", "patch"])
def test_gradient_reaches_everything_but_the_autoencoder(codec: Literal["kl", "patch"]) -> None:
    editor = tiny_editor(codec)
    batch = random_batch(editor)
    torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.1)
    editor.losses(batch, random_draws(editor, batch), NO_DROPOUT).loss.backward()
    parts = {
        name: sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)
        for name, module in {
            "mllm": editor.guide.mllm,
            "vision": editor.guide.mllm.vision_tower,
            "head": editor.guide.edit_head,
            "unet": editor.unet,
        }.items()
    }
    assert all(size > 0 for size in parts.values()), parts
    assert all(parameter.grad is None for parameter in editor.autoencoder.parameters())


def parts(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    editor = tiny_editor("kl")
    return {
        "guide": editor.guide,
        "autoencoder": tiny_kl_autoencoder(),
        "unet": tiny_unet(4, 4),
        "scheduler": tiny_scheduler("epsilon"),
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": tiny_unet(3, 4)}, r"unet.in_channels: expected 8 \(noisy and source latents of 4 channels\), got 6"),
        ({"unet": tiny_unet(4, 5)}, "unet.out_channels: expected 4, or 8 for gain and bias on the source, got 5"),
        (
            {"unet": tiny_unet(4, 8)},
            "expected 'sample' for a UNet that gives gain and bias on the source, got 'epsilon'",
        ),
        ({"autoencoder": PatchAutoencoder(2)}, "unet.in_channels: expected 24 .*12 channels.*, got 8"),
        ({"source_scale": 0.0}, "source_scale: expected a number > 0, got 0.0"),
    ],
)
def test_parts_have_to_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Editor(**parts(**changes))


def test_prediction_type_has_to_be_known() -> None:
    scheduler = tiny_scheduler("epsilon")
    scheduler.register_to_config(prediction_type="flow")
    message = "scheduler.prediction_type: expected one of epsilon, v_prediction, sample, got 'flow'"
    with pytest.raises(ValueError, match=message):
        Editor(**parts(scheduler=scheduler))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_edit_weight": -0.1}, "objective.loss_edit_weight: expected a number >= 0, got -0.1"),
        ({"loss_lm_weight": -1.0}, "objective.loss_lm_weight: expected a number >= 0, got -1.0"),
        ({"loss_align_weight": -2.0}, "objective.loss_align_weight: expected a number >= 0, got -2.0"),
        ({"target_variance": 0.0}, "objective.target_variance: expected a number > 0, got 0.0"),
        ({"last_timestep_prob": 1.5}, "objective.last_timestep_prob: expected a number >= 0 and <= 1, got 1.5"),
        ({"dropout_text_prob": -0.1}, "objective.dropout_text_prob.* expected numbers >= 0 with sum <= 1, got -0.1"),
        ({"dropout_both_prob": 0.95}, "sum <= 1, got 0.05, 0.95, 0.05"),
    ],
)
def test_objective_is_checked(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**changes)


def test_batch_moves_as_a_whole(batch: EditBatch) -> None:
    moved = batch.to("meta")
    assert (len(moved), moved.sample_ids) == (3, batch.sample_ids)
    assert moved.source.device.type == moved.labels.device.type == "meta"
    assert batch.source.shape == (3, 3, RESOLUTION, RESOLUTION)
    assert batch.source.device.type == "cpu"
