"""The two jobs of the framework: a training and an evaluation, from a composed config."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

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
from mgie_lit.config.devices import choose_device
from mgie_lit.config.resume import resumed_config
from mgie_lit.config.runs import (
    CONFIG_FILE,
    check_free,
    current_overrides,
    remove_run_files,
    resolved,
    write_run_files,
)
from mgie_lit.errors import ConfigError
from mgie_lit.evaluation.evaluate import evaluate
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.systems import EditorSystem, EditSystem, PredictionFolder

if TYPE_CHECKING:
    import lightning

LOG = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as the config says, or go on with ``resume``.

    Args:
        config: Composed from ``train.yaml``; with ``resume`` that run's own, with what was typed on top, is used.

    Returns:
        ``optimized_metric`` at the end, for sweeps; None (with a warning) where it was never logged.

    Raises:
        MGIEError: Config, data or checkpoint can not be used; nothing was overwritten.
    """
    checkpoint: Path | None = None
    resume_step: int | None = None
    if config.resume is None:
        check_free(Path(config.paths.run_dir))
    else:
        config = resumed_config(config, current_overrides())
        checkpoint = find_checkpoint(Path(config.paths.run_dir))
        resume_step = int(load_checkpoint(checkpoint)["global_step"])
    _check_start(config)
    _silence_known_warnings()
    editor = build_editor(config)
    module = build_module(config, editor)
    module.make_optimizer(editor.named_parameters())  # a recipe that can not be followed is known now, not in `fit`
    datamodule = build_datamodule(config, editor)
    trainer = build_trainer(config, resume_step)
    run_dir = Path(config.paths.run_dir)
    if checkpoint is None:
        write_run_files(run_dir, config, current_overrides())
    LOG.info("run directory: %s", run_dir)
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except Exception:
        if checkpoint is None and trainer.global_step == 0:  # the same directory can be used once the cause is gone
            remove_run_files(run_dir)
        raise
    return _optimized_value(trainer, config.optimized_metric)


def evaluate_run(config: DictConfig) -> Path:
    """Score a checkpoint or a folder of predictions.

    Args:
        config: Composed from ``eval.yaml``; exactly one of ``checkpoint`` and ``predictions`` is set.

    Returns:
        The evaluation's own directory.

    Raises:
        MGIEError: Config, data, checkpoint or predictions can not be used; nothing was overwritten.
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
    check_free(out_dir)
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
    write_run_files(out_dir, config, current_overrides())
    return out_dir


def _build_system(config: DictConfig) -> tuple[EditSystem, dict[str, object], dict[str, object]]:
    """System, where it comes from, and how it samples."""
    if config.predictions is not None:
        system = PredictionFolder(config.predictions, allow_missing=config.allow_missing)
        return system, {"predictions": str(config.predictions)}, {}
    device = choose_device(config.device, option="device")
    pipeline = load_pipeline(str(config.checkpoint)).to(device)
    changes = {key: value for key, value in config.sampling.items() if value is not None}
    options = replace(pipeline.options, **changes)
    if options.resolution != config.size.resolution:
        LOG.warning(
            "the model works at %s px, data that makes its own images makes them at %s px; give size.resolution=%s",
            options.resolution,
            config.size.resolution,
            options.resolution,
        )
    return EditorSystem(pipeline.editor, options), _describe(str(config.checkpoint)), asdict(options)


def _describe(model: str) -> dict[str, object]:
    """Which weights a name stood for: the file, its step and its hash, where it is a run's."""
    path = Path(model).expanduser()
    if not (path.is_file() or (path / CONFIG_FILE).is_file()):
        return {"checkpoint": model}
    file = find_checkpoint(path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    step = int(load_checkpoint(file)["global_step"])
    return {"checkpoint": model, "file": str(file), "global_step": step, "sha256": digest}


def _optimized_value(trainer: lightning.Trainer, name: str) -> float | None:
    value = trainer.callback_metrics.get(name)
    if value is None:
        known: Sequence[str] = sorted(trainer.callback_metrics)
        LOG.warning("optimized_metric: %s was never logged; logged were %s", name, ", ".join(known))
        return None
    return float(value)


def _check_start(config: DictConfig) -> None:
    if config.trainer.devices != 1:
        raise ConfigError(
            f"trainer.devices: expected 1, got {config.trainer.devices}; this version trains in one process"
        )


def _silence_known_warnings() -> None:
    """Hints of the libraries that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in ("does not have many workers", r"module\(s\) in eval mode", "LeafSpec", "exists and is not empty"):
        warnings.filterwarnings("ignore", message=f".*{text}")
