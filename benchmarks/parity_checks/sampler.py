"""The sampling of a recorded edit: scheduler, injected noise, latents of every step, the image."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import diffusers
import torch
from PIL import Image
from torch import Tensor

from mgie_lit.editor import Editor
from mgie_lit.functional.images import to_unit
from mgie_lit.models.scheduler import Scheduler
from mgie_lit.sampling.edit import SamplingOptions, edit_images
from parity_checks.bundle import INFER_MANIFEST, NotRecorded
from parity_checks.model import Rebuilt
from parity_checks.rows import Table, relative_difference
from parity_checks.watch import Seen

PIPE = "pipe."  # before the names of what was sampled, in the file of a whole edit
# These end at the noise of timestep 0 where nothing else is said; since then diffusers lets them end at none.
ENDED_ABOVE_ZERO = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler")
_STEP_NOISE, _AFTER = "step_noise.", "latents_after."


@dataclass
class Sampling:
    """How an edit was sampled, what is recorded of it, and the latents that we get."""

    scheduler: Scheduler
    options: SamplingOptions
    recorded: dict[str, Tensor]  # without the prefix
    steps: list[Tensor] = field(default_factory=list)  # our latents after each step

    @classmethod
    def of(
        cls, rebuilt: Rebuilt, case: Mapping[str, Any], recorded: Mapping[str, Tensor], prefix: str
    ) -> Sampling | None:
        """The sampling of a case.

        Args:
            rebuilt: Gives the model's own defaults.
            case: Of the manifest.
            recorded: Of the case's file.
            prefix: Before the names.

        Returns:
            None where no sampling is recorded.
        """
        if not is_sampled(recorded, prefix) or "scheduler" not in case:
            return None
        manifest = rebuilt.bundle.infer
        guidance, image_guidance = case.get("guidance", manifest.get("guidance", (7.5, 1.5)))
        options = SamplingOptions(
            resolution=rebuilt.config.size.resolution,
            num_inference_steps=case.get("steps", manifest.get("steps", len(recorded[f"{prefix}timesteps"]))),
            guidance_scale=guidance,
            image_guidance_scale=image_guidance,
        )
        own = {name.removeprefix(prefix): tensor for name, tensor in recorded.items() if name.startswith(prefix)}
        return cls(make_scheduler(case["scheduler"]), options, own)

    def numbered(self, prefix: str) -> dict[int, Tensor]:
        """Recorded tensors with a number behind the prefix, in order."""
        found = {int(name.removeprefix(prefix)): t for name, t in self.recorded.items() if name.startswith(prefix)}
        return dict(sorted(found.items()))


def is_sampled(recorded: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether a file holds what a sampling starts from."""
    return f"{prefix}latents" in recorded


def sample(editor: Editor, sampling: Sampling, picture: Image.Image, instruction: str) -> Image.Image:
    """Edit a picture from recorded latents, with the recorded noise of every step.

    Args:
        editor: As it is, but for its scheduler.
        sampling: Its ``steps`` are filled.
        picture: RGB, of any size.
        instruction: For the guide.

    Returns:
        The edited picture, of the same size.
    """
    sampling.steps.clear()
    with mock.patch.object(editor, "scheduler", sampling.scheduler), _replayed(sampling):
        edited = edit_images(
            editor.eval(),
            [picture],
            [instruction],
            options=sampling.options,
            generators=[torch.Generator()],
            latents=sampling.recorded["latents"],
        )
    return edited[0].image


def check_sampling(group: str, sampling: Sampling | None, seen: Seen, image: Image.Image | None, table: Table) -> None:
    """Timesteps, latents and image.

    Args:
        group: Of the table.
        sampling: After `sample`; None = nothing is recorded.
        seen: During it.
        image: From it.
        table: Gets the rows.
    """
    if sampling is None or image is None:
        table.absent(group, "sampling and image", "no latents or no scheduler are recorded")
        return
    recorded, after = sampling.recorded, sampling.numbered(_AFTER)
    _check_schedule(group, sampling, table)
    for key, label, tensors in (
        ("unet_in.0", "first UNet input", seen.unet_inputs),
        ("unet_out.0", "first UNet output", seen.unet_outputs),
    ):
        table.compare(group, label, _text_first(tensors[0]) if key in recorded else None, recorded.get(key))
    if after:
        apart = [_apart(sampling.steps, index, latents) for index, latents in after.items()]
        table.judge(group, "latents after each step", max(apart), note=f"the worst of {len(apart)} steps")
    unit = to_unit(seen.decoded[0])[0].permute(1, 2, 0)  # (H, W, 3)
    table.compare(group, "image", unit if "image_float" in recorded else None, recorded.get("image_float"))
    if "image_u8" in recorded:
        table.judge(group, "image, 8 bit", _rounding_gap(unit, image, recorded["image_u8"]))


def _check_schedule(group: str, sampling: Sampling, table: Table) -> None:
    """Timesteps (of the steps after which something was recorded) and noise levels."""
    scheduler, recorded = sampling.scheduler, sampling.recorded
    scheduler.set_timesteps(sampling.options.num_inference_steps, device=torch.device("cpu"))
    if "timesteps" in recorded:
        steps = list(sampling.numbered(_AFTER))
        is_part = len(steps) == len(recorded["timesteps"]) and max(steps) < len(scheduler.timesteps)
        ours = scheduler.timesteps[steps] if is_part else scheduler.timesteps
        table.compare(group, "timesteps", ours, recorded["timesteps"])
    sigmas = getattr(scheduler, "sigmas", torch.empty(0))
    if len(recorded.get("sigmas", ())) == len(sigmas) > 0:  # older solvers kept those of all training timesteps there
        table.compare(group, "noise levels", sigmas, recorded["sigmas"])


def _apart(steps: list[Tensor], index: int, recorded: Tensor) -> float:
    if index >= len(steps) or steps[index].shape != recorded.shape:
        return float("inf")
    return relative_difference(steps[index].double(), recorded.double())


def _rounding_gap(unit: Tensor, image: Image.Image, recorded: Tensor) -> float:
    """By how much our floats are further from the recorded 8 bits than rounding explains, in units of the range.

    Our own picture must hold the rounded floats wherever it has the working size.
    """
    height, width = unit.shape[:2]
    if recorded.shape != unit.shape:
        return float("inf")
    if image.size == (width, height):
        own = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, 3)
        if not torch.equal(own, unit.mul(255.0).round().to(torch.uint8)):
            return float("inf")
    return max(0.0, float((unit.double() * 255.0 - recorded.double()).abs().max()) - 0.5) / 255.0


def _text_first(branches: Tensor) -> Tensor:
    """Guidance branches in the order of diffusers' pipeline: text, image, neither; ours is the other way round."""
    return branches.unflatten(0, (3, -1)).flip(0).flatten(0, 1)  # type: ignore[no-untyped-call, no-any-return]


def make_scheduler(arguments: Mapping[str, Any]) -> Scheduler:
    """The scheduler of a recorded edit.

    Args:
        arguments: ``cls``, a class of diffusers, and what it is called with.

    Returns:
        A new one, with the defaults that the class had when the edits were recorded.

    Raises:
        ValueError: Today's diffusers has no such class, or it does not take these arguments.
    """
    given = dict(arguments)
    name = given.pop("cls", None)
    if name in ENDED_ABOVE_ZERO:
        given.setdefault("final_sigmas_type", "sigma_min")
    try:
        scheduler: Scheduler = getattr(diffusers, str(name))(**given)
    except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{INFER_MANIFEST}: expected the class of a diffusers scheduler and its arguments, got {name} with {given} "
            f"({error})"
        ) from error
    return scheduler


@contextmanager
def _replayed(sampling: Sampling) -> Iterator[None]:
    """Let the scheduler draw the recorded noise, one tensor a draw, and note the latents that it gives."""
    noise = sampling.numbered(_STEP_NOISE)
    kind: Any = type(sampling.scheduler)
    plain = kind.step

    @functools.wraps(plain)  # the signature tells our sampler whether the scheduler wants generators
    def step(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        output = plain(*args, **kwargs)
        sampling.steps.append(output.prev_sample)
        return output

    def randn_tensor(shape: tuple[int, ...], *_: object, **kwargs: Any) -> Tensor:  # noqa: ANN401
        drawn = noise.get(len(sampling.steps))
        if drawn is None or tuple(drawn.shape) != tuple(shape):
            raise NotRecorded(f"noise of {kind.__name__}'s step {len(sampling.steps)}, of shape {tuple(shape)}")
        return drawn

    module = sys.modules[kind.__module__]
    with mock.patch.object(kind, "step", step):
        if hasattr(module, "randn_tensor"):
            with mock.patch.object(module, "randn_tensor", randn_tensor):
                yield
        else:
            yield
