from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgie_lit.models.mllm import MLLM
from mgie_lit.testing.tiny_models import LLM_DIM, NUM_IMAGE_PATCHES, VISION_SIZE, VOCAB_SIZE, tiny_mllm

PATCH = 501  # stands for <im_patch>
STOP = VOCAB_SIZE - 1


@pytest.fixture(scope="module")
def mllm() -> MLLM:
    torch.manual_seed(0)
    model = tiny_mllm(PATCH).eval()
    # with such weights a random model's greedy choices are clear, not decided by rounding
    torch.nn.init.normal_(model.language_model.lm_head.weight, std=1.0)
    torch.nn.init.normal_(model.word_embeddings, std=1.0)
    return model


def pixels(batch: int) -> Tensor:
    return torch.randn(batch, 3, VISION_SIZE, VISION_SIZE, generator=torch.Generator().manual_seed(batch))


def ids_with_image() -> Tensor:
    """Two rows with the image in different places."""
    patches = [PATCH] * NUM_IMAGE_PATCHES
    return torch.tensor([[1, 7, *patches, 9, 11], [1, *patches, 8, 10, 12]])


def test_image_features_are_projected_patches_of_the_chosen_layer(mllm: MLLM) -> None:
    images = pixels(2)
    states = mllm.vision_tower(images, output_hidden_states=True).hidden_states
    assert len(states) == 4  # embeddings and three layers
    features = mllm.image_features(images)
    assert features.shape == (2, NUM_IMAGE_PATCHES, LLM_DIM)
    expected = mllm.projector(states[2][:, 1:])
    assert torch.equal(features, expected)


def test_every_patch_token_gets_its_own_image_s_feature(mllm: MLLM) -> None:
    ids, images = ids_with_image(), pixels(2)
    embeddings, features = mllm.embed(ids, images), mllm.image_features(images)
    for row in range(2):
        patch = 0
        for position, index in enumerate(ids[row].tolist()):
            if index == PATCH:
                assert torch.equal(embeddings[row, position], features[row, patch])
                patch += 1
            else:
                assert torch.equal(embeddings[row, position], mllm.word_embeddings[index])
        assert patch == NUM_IMAGE_PATCHES


def test_embedding_passes_no_gradient_to_the_patch_token(mllm: MLLM) -> None:
    mllm.zero_grad()
    mllm.embed(ids_with_image(), pixels(2)).sum().backward()
    gradient = mllm.word_embeddings.grad
    assert gradient is not None
    assert gradient[PATCH].abs().max() == 0
    assert gradient[[1, 7, 8, 9, 10, 11, 12]].abs().min() > 0
    mllm.zero_grad()


def test_without_pixels_ids_are_just_looked_up(mllm: MLLM) -> None:
    ids = ids_with_image()
    assert torch.equal(mllm.embed(ids), mllm.word_embeddings[ids])


def test_hidden_states_are_those_after_the_final_norm(mllm: MLLM) -> None:
    ids = torch.tensor([[1, 5, 6, 7]])
    outputs = mllm.language_model(ids, output_hidden_states=True)
    hidden = mllm(mllm.embed(ids), torch.ones(1, 4, dtype=torch.bool))
    assert hidden.shape == (1, 4, LLM_DIM)
    assert torch.allclose(hidden, outputs.hidden_states[-1], atol=1e-6)
    assert torch.allclose(mllm.logits(hidden), outputs.logits, atol=1e-5)


def test_padding_on_the_right_changes_nothing(mllm: MLLM) -> None:
    short, long = torch.tensor([1, 5, 6]), torch.tensor([1, 9, 8, 7, 4])
    ids = torch.tensor([[*short.tolist(), 0, 0], long.tolist()])
    hidden = mllm(mllm.embed(ids), torch.tensor([[True] * 3 + [False] * 2, [True] * 5]))
    for row, alone in enumerate((short, long)):
        expected = mllm(mllm.embed(alone[None]), torch.ones(1, len(alone), dtype=torch.bool))[0]
        assert torch.allclose(hidden[row, : len(alone)], expected, atol=1e-5)


def test_states_do_not_see_what_follows(mllm: MLLM) -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    first = mllm(mllm.embed(torch.tensor([[1, 5, 6, 7]])), mask)
    second = mllm(mllm.embed(torch.tensor([[1, 5, 6, 400]])), mask)
    assert torch.allclose(first[:, :3], second[:, :3], atol=1e-6)
    assert not torch.allclose(first[:, 3], second[:, 3], atol=1e-2)


def test_blind_model_wants_no_pixels() -> None:
    blind = tiny_mllm(None, has_vision=False)
    assert blind.vision_tower is None
    assert blind.projector is None
    with pytest.raises(ValueError, match="pixels: this MLLM was built without a vision tower; expected none"):
        blind.image_features(pixels(1))


def test_saved_and_loaded_it_gives_the_same(mllm: MLLM, tmp_path: Path) -> None:
    mllm.save_pretrained(tmp_path)
    loaded = MLLM.from_pretrained(tmp_path)
    ids = ids_with_image()
    mask = torch.ones_like(ids, dtype=torch.bool)
    assert torch.equal(loaded(loaded.embed(ids, pixels(2)), mask), mllm(mllm.embed(ids, pixels(2)), mask))
    assert loaded.image_patch_id == PATCH
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]


def test_projector_of_two_layers_has_a_gelu_between() -> None:
    vision = {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 1, "num_attention_heads": 3}
    language = {
        "vocab_size": 50,
        "hidden_size": 40,
        "intermediate_size": 52,
        "num_hidden_layers": 1,
        "num_attention_heads": 5,
    }
    mllm = MLLM(
        language, {**vision, "image_size": 28, "patch_size": 14}, vision_layer=-1, image_patch_id=3, projector_layers=2
    )
    pixels = torch.randn(2, 3, 28, 28)
    states = mllm.vision_tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]  # type: ignore[misc]
    first, _, second = mllm.projector  # type: ignore[misc]
    expected = second(torch.nn.functional.gelu(first(states)))
    assert torch.allclose(mllm.image_features(pixels), expected, atol=1e-6)


def test_projector_of_another_depth() -> None:
    with pytest.raises(ValueError, match=r"projector_layers: expected 1 \(linear\) or 2 .*got 3"):
        MLLM(
            {"vocab_size": 50, "hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 1},
            {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 1},
            projector_layers=3,
        )


def test_layers_above_the_chosen_one_are_not_run(mllm: MLLM) -> None:
    ran: list[int] = []
    layers = mllm.vision_tower.encoder.layers
    handles = [
        layer.register_forward_hook(lambda *_, index=index: ran.append(index)) for index, layer in enumerate(layers)
    ]
    mllm.vision_states(pixels(1))
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]  # hidden state -2 of three layers
