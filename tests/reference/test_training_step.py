"""A second implementation of the training step, as plainly as it can be written: sample by sample, without padding."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from mgie_lit.editor import Editor, Objective
from mgie_lit.testing.random_data import random_draws, random_example, tiny_collator
from mgie_lit.testing.tiny_models import NUM_IMAGE_PATCHES, tiny_editor
from mgie_lit.types import EditDraws, EditExample

CODECS: list[Literal["kl", "patch"]] = ["kl", "patch"]
UNIFORM = [0.02, 0.07, 0.12, 0.6]  # no text, neither, no image, everything


def signed_pixels(image: object) -> np.ndarray:
    return np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 127.5 - 1


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).float()[None]


def slow_states(editor: Editor, example: EditExample) -> tuple[list[int], int, torch.Tensor]:
    """Ids of the sample alone, where its answer begins, and the states after LLaMA's last norm."""
    guide = editor.guide
    mllm, tokenizer = guide.mllm, guide.prompt.tokenizer
    special = tokenizer.get_vocab()
    words = tokenizer.encode(
        f"USER: what will this image be like if ' {example.instruction} '", add_special_tokens=False
    )
    answer = tokenizer.encode(f"ASSISTANT: {example.expressive_instruction}", add_special_tokens=False)
    patches = [special["<im_patch>"]] * NUM_IMAGE_PATCHES
    ids = [1, *words, special["<im_start>"], *patches, special["<im_end>"], *answer]
    ids += [special[f"[IMG{index}]"] for index in range(8)] + [2]
    marker = len(tokenizer.encode("ASSISTANT:", add_special_tokens=False))
    begin = len(ids) - 9 - (len(answer) - marker)

    pixels = guide.image_processor([example.source], return_tensors="pt")["pixel_values"]
    tower = mllm.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][0, 1:]
    table = mllm.language_model.model.embed_tokens.weight
    seen = 0
    vectors = []
    for index in ids:
        if index == special["<im_patch>"]:
            vectors.append(mllm.projector(tower[seen]))
            seen += 1
        else:
            vectors.append(table[index])
    hidden = mllm.language_model.model(inputs_embeds=torch.stack(vectors)[None]).last_hidden_state[0]
    return ids, begin, hidden


def slow_head(head: nn.Module, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    memory = torch.stack([head.llm2hid(state + row) for state, row in zip(states, embeddings, strict=True)])[None]
    encoded = head.mapper.encoder(memory)
    return torch.stack([head.hid2feat(row) for row in head.mapper.decoder(head.query, encoded)[0]])[None]


def slow_losses(editor: Editor, examples: list[EditExample], draws: EditDraws) -> tuple[float, float]:
    """Instruction loss and edit loss of a batch."""
    guide = editor.guide
    head = guide.edit_head
    table = guide.mllm.language_model.model.embed_tokens.weight
    first = guide.prompt.tokenizer.get_vocab()["[IMG0]"]
    embeddings = table[first : first + 8]
    nats, num_labels, squares = 0.0, 0, []
    for row, example in enumerate(examples):
        ids, begin, hidden = slow_states(editor, example)
        for position in range(begin, len(ids)):
            scores = guide.mllm.language_model.lm_head(hidden[position - 1]).double()
            nats += math.log(sum(math.exp(score) for score in scores.tolist())) - scores[ids[position]].item()
            num_labels += 1
        start = ids.index(first)
        text = slow_head(head, hidden[start - 1 : start + 7], embeddings)
        null = slow_head(head, torch.zeros(8, hidden.shape[1]), embeddings)
        uniform = float(draws.condition_dropout[row])
        condition = null if uniform < 0.10 else text
        keeps_image = not 0.05 <= uniform < 0.15

        encode = editor.autoencoder.encode
        source = encode(tensor(signed_pixels(example.source))).latent_dist.mode() * editor.source_scale
        target = encode(tensor(signed_pixels(example.target))).latent_dist
        scale = editor.autoencoder.config["scaling_factor"]
        clean = (target.mean + target.std * draws.latent_noise[row]) * scale
        alpha = float(editor.scheduler.alphas_cumprod[draws.timesteps[row]])
        noisy = math.sqrt(alpha) * clean + math.sqrt(1 - alpha) * draws.noise[row]
        given = source if keeps_image else torch.zeros_like(source)
        pooled = condition.mean(1) if editor.unet.config.class_embed_type == "projection" else None
        output = editor.unet(torch.cat([noisy, given], 1), draws.timesteps[row], condition, class_labels=pooled).sample
        if output.shape[1] == 2 * clean.shape[1]:
            gain, bias = output[:, : clean.shape[1]], output[:, clean.shape[1] :]
            difference = given / editor.source_scale * scale * (1 + gain) + bias - clean
        else:
            difference = output - draws.noise[row]
        squares.append(np.mean(difference.double().numpy() ** 2))
    return nats / num_labels, float(np.mean(squares))


@pytest.mark.parametrize("codec", CODECS)
@torch.no_grad()
def test_training_step_equals_the_plain_one(codec: Literal["kl", "patch"]) -> None:
    editor = tiny_editor(codec)
    nn.init.normal_(editor.unet.conv_out.weight, std=0.1)  # a fresh affine head would leave the UNet out
    examples = [random_example(index) for index in range(4)]
    batch = tiny_collator(editor.guide)(examples)
    draws = random_draws(editor, batch)
    draws.condition_dropout = torch.tensor(UNIFORM)
    losses = editor.losses(batch, draws, Objective())
    loss_lm, loss_edit = slow_losses(editor, examples, draws)
    assert losses.loss_lm is not None
    assert losses.loss_lm.item() == pytest.approx(loss_lm, rel=1e-5)
    assert losses.loss_edit.item() == pytest.approx(loss_edit, rel=1e-5)
    assert losses.loss.item() == pytest.approx(loss_lm + 0.5 * loss_edit, rel=1e-5)
