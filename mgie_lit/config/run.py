"""The two jobs of the framework: a training and an evaluation, from a composed config."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mgie_lit.checkpoints.runs import find_checkpoint, load_checkpoint
from mgie_lit.config.build import (
    build_datamodule,
    build_dataset,
    build_editor,
    build_metrics,
    build_module,
    build_trainer,
    load_pipeline,
)
from mgie_lit.config.runs import current_overrides, read_run_config, resolved, write_run_files
from mgie_lit.errors import ConfigError
from mgie_lit.evaluation.evaluate import evaluate
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.systems import EditorSystem, EditSystem, PredictionFolder

LOG = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as the config says, or go on with ``resume``.

    Args:
        config: Composed from ``train.yaml``; with ``resume`` that run's own, with what was typed on top, is used.

    Returns:
        ``optimized_metric`` at the end, for sweeps; None where it was never logged.

    Raises:
        MGIEError: Config, data or checkpoint can not be used; nothing was overwritten.
    """
    checkpoint: Path | None = None
    resume_step: int | None = None
    if config.resume is None:
        _check_start(config)
    else:
        config = resumed_config(config)
        checkpoint = find_checkpoint(Path(config.paths.run_dir))
        resume_step = int(load_checkpoint(checkpoint)["global_step"])
    _silence_known_warnings()
    editor = build_editor(config)
    module = build_module(config, editor)
    datamodule = build_datamodule(config, editor)
    if checkpoint is None:  # only now: a config that can not be built leaves nothing behind
        write_run_files(Path(config.paths.run_dir), config, current_overrides())
    trainer = build_trainer(config, resume_step)
    LOG.info("run directory: %s", config.paths.run_dir)
    trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    value = trainer.callback_metrics.get(config.optimized_metric)
    return None if value is None else float(value)


def resumed_config(config: DictConfig) -> DictConfig:
    """The interrupted run's own config; what was typed beside ``resume`` is put on top of it."""
    stored = read_run_config(Path(config.resume))
    changes = [text for text in current_overrides() if not text.lstrip("+").startswith("resume=")]
    merged = OmegaConf.merge(stored, OmegaConf.from_dotlist(changes))
    assert isinstance(merged, DictConfig)
    merged.paths.run_dir = str(config.resume)
    return merged


def evaluate_run(config: DictConfig) -> Path:
    """Score a checkpoint or a folder of predictions.

    Args:
        config: Composed from ``eval.yaml``; exactly one of ``checkpoint`` and ``predictions`` is set.

    Returns:
        The evaluation's own directory.

    Raises:
        MGIEError: Config, data, checkpoint or predictions can not be used.
    """
    if (config.checkpoint is None) == (config.predictions is None):
        raise ConfigError(
            "eval: expected either checkpoint=<run dir | .ckpt | export folder> or predictions=<folder of images>"
        )
    if config.predictions is not None and config.num_seeds != 1:
        raise ConfigError(
            f"num_seeds: expected 1 for a folder of predictions, which is one edit a sample, got {config.num_seeds}"
        )
    out_dir = Path(config.paths.run_dir)
    dataset = build_dataset(config, config.split)
    metrics = build_metrics(config)
    system, source, sampling = _build_system(config)
    evaluate(
        system,
        dataset,
        metrics,
        out_dir=out_dir,
        seeds=range(config.seed, config.seed + config.num_seeds),
        batch_size=config.batch_size,
        protocol={"data": resolved(config)["data"], "split": config.split, "sampling": sampling},
        source=source,
        progress=True,
        bootstrap=Bootstrap(seed=config.seed),
    )
    write_run_files(out_dir, config, current_overrides(), beside_results=True)
    return out_dir


def _build_system(config: DictConfig) -> tuple[EditSystem, dict[str, object], dict[str, object]]:
    """System, where it comes from, and how it samples."""
    if config.predictions is not None:
        system = PredictionFolder(config.predictions, allow_missing=config.allow_missing)
        return system, {"predictions": str(config.predictions)}, {}
    pipeline = load_pipeline(str(config.checkpoint)).to(config.device)
    changes = {key: value for key, value in config.sampling.items() if value is not None}
    options = replace(pipeline.options, **changes)
    return EditorSystem(pipeline.editor, options), {"checkpoint": str(config.checkpoint)}, asdict(options)


def _check_start(config: DictConfig) -> None:
    if not config.size.from_scratch:
        raise ConfigError(
            "size: expected weights to start from, these sizes are trained from published ones, which this version can "
            "not load yet; size.from_scratch=true starts from random weights"
        )


def _silence_known_warnings() -> None:
    """Hints of the libraries that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in ("does not have many workers", r"module\(s\) in eval mode", "LeafSpec", "exists and is not empty"):
        warnings.filterwarnings("ignore", message=f".*{text}")
