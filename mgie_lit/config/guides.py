"""The guide of a config: it is given the parts that its constructor names, and no others are made."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from mgie_lit.config.start import without_draws
from mgie_lit.config.targets import locate
from mgie_lit.errors import ConfigError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.prompts import EditPrompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import DictConfig
    from torch import nn

    Maker = Callable[[DictConfig, dict[str, Any]], Any]  # config, parts made so far

_make = partial(instantiate, _convert_="all")


def build_faults(config: DictConfig) -> Faults:
    """Which faults of the released code are kept; none in the config of a run that knows of none."""
    faults: Faults = instantiate(config.faults) if "faults" in config else NO_FAULTS
    return faults


def build_prompt(config: DictConfig) -> EditPrompt:
    """Tokenizer and conversation of ``size``."""
    vision = config.size.mllm.vision
    patches = 0 if vision is None else (vision.image_size // vision.patch_size) ** 2
    return EditPrompt(
        instantiate(config.size.tokenizer),
        num_image_patches=patches,
        faults=build_faults(config),
        **config.size.prompt,
    )


def build_guide(config: DictConfig) -> nn.Module:
    """The guide of ``model.guide``, with random weights; those of ``size.start`` are loaded later.

    Args:
        config: With ``size``, ``model`` and ``faults``.

    Returns:
        The guide, on the CPU, in train mode.

    Raises:
        ConfigError: The parts do not fit together.
    """
    wanted = inspect.signature(locate(config.model.guide["_target_"])).parameters
    made: dict[str, Any] = {}
    try:
        for name, make in _PARTS.items():
            if name in wanted:
                made[name] = make(config, made)
        guide: nn.Module = _make(config.model.guide, _partial_=True)(**made)  # instantiate would change what is made
    except ValueError as error:
        raise ConfigError(f"size: {error}") from error
    return guide


def _mllm(config: DictConfig, made: dict[str, Any]) -> Any:  # noqa: ANN401
    with without_draws(config.size.start.mllm):
        return _make(config.size.mllm, image_patch_id=made["prompt"].image_patch_id)


def _text_encoder(config: DictConfig, made: dict[str, Any]) -> Any:  # noqa: ANN401
    with without_draws(config.size.start.diffusion):
        return _make(config.size.text_encoder)


_PARTS: dict[str, Maker] = {  # in the order in which their weights are drawn
    "prompt": lambda config, made: build_prompt(config),
    "mllm": _mllm,
    "edit_head": lambda config, made: _make(config.size.edit_head),
    "image_processor": lambda config, made: _make(config.size.image_processor),
    "text_encoder": _text_encoder,
    "text_tokenizer": lambda config, made: _make(config.size.text_tokenizer),
    "faults": lambda config, made: build_faults(config),
}
