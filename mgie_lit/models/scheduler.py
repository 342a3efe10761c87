"""What training and sampling ask of a noise scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor


class Scheduler(Protocol):
    """The shape of diffusers' discrete schedulers; their common base class declares none of it."""

    alphas_cumprod: Tensor  # (T,) in [0, 1], falling
    timesteps: Tensor  # (steps,) of the sampling, falling

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments; ``prediction_type`` says what the UNet gives."""
        ...

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of the latents at which sampling starts; 1 where the forward noising ends there."""
        ...

    def set_timesteps(self, num_inference_steps: int, device: torch.device) -> None:
        """Spread ``timesteps`` over a sampling of this many steps."""
        ...

    @property
    def scale_model_input(self) -> Callable[..., Tensor]:
        """``(latents, timestep)`` -> what the UNet is to see of them, same shape."""
        ...

    @property
    def step(self) -> Callable[..., Any]:
        """``(prediction, timestep, latents)`` -> an output whose ``prev_sample`` are the latents one step on."""
        ...
