from __future__ import annotations

from typing import Any

import pytest
import torch

from mgie_lit.training.draws import draw
from mgie_lit.types import EditDraws

SHAPE = (4, 3, 5)


def draws_of(*sample_ids: str, **changes: Any) -> EditDraws:  # noqa: ANN401
    return draw(sample_ids, **{"seed": 0, "epoch": 0, "latent_shape": SHAPE, "num_timesteps": 1000} | changes)


def fields(draws: EditDraws, row: int) -> list[torch.Tensor]:
    return [draws.noise[row], draws.latent_noise[row], draws.timesteps[row], draws.condition_dropout[row]]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_shapes_and_types() -> None:
    draws = draws_of("a", "b")
    assert draws.noise.shape == draws.latent_noise.shape == (2, *SHAPE)
    assert draws.timesteps.shape == draws.condition_dropout.shape == (2,)
    assert draws.timesteps.dtype == torch.int64
    assert draws.noise.dtype == draws.condition_dropout.dtype == torch.float32


def test_a_sample_s_draws_do_not_depend_on_its_batch() -> None:
    alone = fields(draws_of("b"), 0)
    torch.manual_seed(77)
    assert same(fields(draws_of("a", "b", "c"), 1), alone)
    assert same(fields(draws_of("b", "a"), 0), alone)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"epoch": 1}, {"epoch": -1}])
def test_seed_and_epoch_change_everything(changes: dict[str, int]) -> None:
    for one, other in zip(fields(draws_of("a"), 0), fields(draws_of("a", **changes), 0), strict=True):
        assert not torch.equal(one, other)


def test_samples_differ_and_the_two_noises_too() -> None:
    draws = draws_of("a", "b")
    assert not torch.equal(draws.noise[0], draws.noise[1])
    assert not torch.equal(draws.noise, draws.latent_noise)


def test_distributions() -> None:
    draws = draw(map(str, range(4000)), seed=0, epoch=0, latent_shape=(1, 2, 2), num_timesteps=10)
    shares = torch.bincount(draws.timesteps, minlength=10) / 4000
    assert shares.tolist() == pytest.approx([0.1] * 10, abs=0.02)
    assert draws.noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert draws.noise.std().item() == pytest.approx(1.0, abs=0.02)
    assert 0 <= draws.condition_dropout.min() < 0.01
    assert 0.99 < draws.condition_dropout.max() < 1
    independent = torch.corrcoef(
        torch.stack([draws.timesteps.float(), draws.condition_dropout, draws.noise[:, 0, 0, 0]])
    )
    assert (independent - torch.eye(3)).abs().max() < 0.06


def test_an_extra_share_is_at_the_last_timestep() -> None:
    names = [str(index) for index in range(2000)]
    plain, extra = (draws_of(*names, latent_shape=(1, 1, 1), last_timestep_prob=prob).timesteps for prob in (0.0, 0.4))
    moved = plain != extra
    assert (extra[moved] == 999).all()
    assert moved.float().mean().item() == pytest.approx(0.4, abs=0.04)
    always = draws_of(*names[:50], last_timestep_prob=1.0)
    assert (always.timesteps == 999).all()


def test_moving_keeps_everything_together() -> None:
    moved = draws_of("a").to(torch.device("meta"))
    assert {tensor.device.type for tensor in fields(moved, 0)} == {"meta"}
