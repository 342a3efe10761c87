"""The randomness of a training step, keyed by seed, sample and epoch, so that any step can be replayed anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mgie_lit.functional.randomness import keyed_generator
from mgie_lit.types import EditDraws


def draw(
    sample_ids: Sequence[str],
    *,
    seed: int,
    epoch: int,
    latent_shape: tuple[int, int, int],
    num_timesteps: int,
    last_timestep_prob: float = 0.0,
) -> EditDraws:
    """Noise, timesteps and dropout of a batch; each sample's do not depend on its neighbours, rank or position.

    Args:
        sample_ids: Of the batch.
        seed: Of the run.
        epoch: From 0; the draws of a sample change with it.
        latent_shape: ``(C, h, w)``.
        num_timesteps: ``T``; timesteps are uniform in ``[0, T)`` ...
        last_timestep_prob: ... but for this share, which is at ``T - 1``.

    Returns:
        Draws on the CPU.
    """
    noise, latent_noise, uniform = [], [], []
    for sample_id in sample_ids:
        generator = keyed_generator(seed, epoch, sample_id)
        noise.append(torch.randn(latent_shape, generator=generator))
        latent_noise.append(torch.randn(latent_shape, generator=generator))
        uniform.append(torch.rand(3, generator=generator))
    when, last, dropout = torch.stack(uniform).unbind(1)
    timesteps = (when * num_timesteps).long().clamp(max=num_timesteps - 1)
    return EditDraws(
        noise=torch.stack(noise),
        latent_noise=torch.stack(latent_noise),
        timesteps=torch.where(last < last_timestep_prob, num_timesteps - 1, timesteps),
        condition_dropout=dropout,
    )
