"""The composition root: config -> objects. Nothing below it knows of configs.

What only a training needs is built next door, in ``build_training``: Lightning alone takes seconds to import, and
editing does without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mgie_lit.checkpoints.exports import TINY
from mgie_lit.checkpoints.runs import (
    CONFIG_KEY,
    EMA,
    chosen_weights,
    find_checkpoint,
    load_checkpoint,
    load_editor_weights,
)
from mgie_lit.config.card import run_card
from mgie_lit.config.guides import build_faults, build_guide
from mgie_lit.config.runs import CONFIG_FILE
from mgie_lit.config.start import load_start, start_sources, without_draws
from mgie_lit.editor import Editor
from mgie_lit.errors import ConfigError
from mgie_lit.models.unet import zero_output
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.solvers import make_scheduler

if TYPE_CHECKING:
    from mgie_lit.data.readers import EditDataset
    from mgie_lit.models.scheduler import Scheduler
    from mgie_lit.sampling.edit import SamplingOptions


def build_editor(config: DictConfig) -> Editor:
    """The system of a config as it is before training: loaded from ``size.start``, the rest drawn from ``seed``.

    Args:
        config: With ``seed``, ``size``, ``model``, ``sampler`` and ``faults``.

    Returns:
        The editor, on the CPU, in train mode.

    Raises:
        ConfigError: The parts do not fit together.
        CheckpointError: Weights to start from are missing or do not fit.
    """
    torch.manual_seed(config.seed)
    faults = build_faults(config)
    guide = build_guide(config)
    with without_draws(config.size.start.diffusion):
        autoencoder, unet = (instantiate(config.size[name], _convert_="all") for name in ("autoencoder", "unet"))
    scheduler = instantiate(config.sampler.scheduler, _convert_="all")
    try:
        editor = Editor(guide, autoencoder, unet, scheduler, source_scale=config.size.source_scale, faults=faults)
    except ValueError as error:
        raise ConfigError(f"size, sampler: {error}") from error
    _check_sampling(scheduler, config.sampler.options)
    if editor.states_affine:
        zero_output(editor.unet)
    load_start(editor, guide, config, faults)
    return editor


def _check_sampling(scheduler: Scheduler, config: DictConfig) -> None:
    """A solver that does not fit would stop a training at its first validation."""
    options: SamplingOptions = instantiate(config)
    try:
        make_scheduler(scheduler, options.solver, options.num_inference_steps)
    except ConfigError as error:
        raise ConfigError(f"sampler.options.{error}") from error


def build_dataset(config: DictConfig, split: str) -> EditDataset:
    """The examples of one split of ``data``.

    Args:
        config: Of a run, with ``data``.
        split: A key of ``data.num_examples``: ``train``, ``val`` or ``test``.

    Returns:
        Examples by index, read or made when asked for.

    Raises:
        ConfigError: The split is unknown.
    """
    if split not in config.data.num_examples:
        raise ConfigError(f"split: expected one of {', '.join(config.data.num_examples)}, got {split}")
    dataset: EditDataset = instantiate(
        config.data.reader, _convert_="all", split=split, num_examples=config.data.num_examples[split]
    )()
    return dataset


def build_metrics(config: DictConfig) -> dict[str, Any]:
    """Metrics by name."""
    return {str(name): instantiate(node) for name, node in config.metrics.items() if node is not None}


def load_editor(path: Path, weights: str = EMA) -> tuple[Editor, DictConfig]:
    """Editor and config of a run directory or checkpoint file.

    Args:
        path: What ``find_checkpoint`` takes.
        weights: ``ema``: the moving average, where the checkpoint has one; ``raw``: what the optimizer left.

    Returns:
        The trained editor in eval mode on the CPU, and the config that the checkpoint carries.

    Raises:
        CheckpointError: There is no checkpoint, or it does not fit.
    """
    file = find_checkpoint(path)
    checkpoint = load_checkpoint(file)
    config = OmegaConf.create(checkpoint[CONFIG_KEY])
    assert isinstance(config, DictConfig)
    editor = build_editor(config)
    load_editor_weights(editor, checkpoint, file, sources=start_sources(config), weights=weights)
    return editor.eval(), config


def load_pipeline(model: str, weights: str = EMA) -> MGIEPipeline:
    """A pipeline from ``tiny``, a run directory, a ``.ckpt`` file, an export folder or a hub id.

    Args:
        model: One of these, as the user wrote it; ``~`` is expanded.
        weights: Of a run or checkpoint, as for `load_editor`; exports have one kind.

    Returns:
        The pipeline on the CPU, with the sampling options and the card of the run or export.

    Raises:
        CheckpointError: Nothing can be loaded there; the message says what was expected.
    """
    path = Path(model).expanduser()
    if model != TINY and (path.is_file() or (path / CONFIG_FILE).is_file()):
        file = find_checkpoint(path)
        editor, config = load_editor(file, weights)
        pipeline = MGIEPipeline.from_editor(editor, instantiate(config.sampler.options))
        content = load_checkpoint(file)
        pipeline.card = run_card(file, config, step=content["global_step"], weights=chosen_weights(content, weights))
        return pipeline
    return MGIEPipeline.from_pretrained(model)
