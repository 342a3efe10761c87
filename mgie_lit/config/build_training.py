"""What trains an editor, from a config: batches, LightningModule, Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate

from mgie_lit.config.guides import build_faults
from mgie_lit.config.processes import check_sharded, cluster_environment
from mgie_lit.config.runs import VERSIONS_FILE, config_hash, resolved
from mgie_lit.config.start import start_sources
from mgie_lit.data.buckets import BucketTransform, bucket_sizes
from mgie_lit.data.cache.opened import open_cache
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.data.resampling import PILLOW
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.errors import ConfigError
from mgie_lit.models.freezing import is_frozen
from mgie_lit.training.callbacks.same_config import SameConfig
from mgie_lit.training.checkpoint_io import CheckedCheckpointIO
from mgie_lit.training.compute import AS_IT_IS
from mgie_lit.training.module import EditModule

if TYPE_CHECKING:
    import lightning
    from omegaconf import DictConfig

    from mgie_lit.editor import Editor
    from mgie_lit.faults import Faults
    from mgie_lit.training.compute import Compute


def build_datamodule(config: DictConfig, editor: Editor) -> EditDataModule:
    """Batches of ``data`` for an editor."""
    guide: Any = editor.guide
    faults = build_faults(config)
    transform = _transform(config, faults, editor.size_multiple)
    processor = guide.image_processor if guide.sees_image else None
    collator = EditCollator(guide.prompt, processor, transform, faults=faults)
    return EditDataModule(
        instantiate(config.data.reader, _convert_="all"),
        collator,
        num_examples=config.data.num_examples,
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        seed=config.seed,
        accumulation=config.trainer.accumulate_grad_batches,
        faults=faults,
        cache=open_cache(config.data.get("cache"), editor, collator, config.trainer.precision),
        length_buckets=_length_buckets(config, faults),
    )


def _length_buckets(config: DictConfig, faults: Faults) -> int | None:
    """Batches that are filled by length; None where the config, or one from before there was a choice, wants none."""
    count: int | None = config.data.get("length_buckets")
    if count is not None and faults.overlapping_ranks:
        raise ConfigError(
            "data.length_buckets: expected null with faults.overlapping_ranks=true (preset=released), which deals "
            f"examples out in its own way, got {count}; use null, or repair the fault"
        )
    if count is not None and config.data.get("streaming"):
        raise ConfigError(
            "data.length_buckets: expected null with data.streaming=true, as rows that wait for others of their length "
            f"would be read with their row groups again, got {count}; use null, or data.streaming=false"
        )
    return count


def _transform(config: DictConfig, faults: Faults, multiple: int) -> PairTransform | TwoStepTransform | BucketTransform:
    """Geometry of the training."""
    resolution, max_aspect = config.size.resolution, config.data.get("max_aspect")
    resampler = config.data.get("resampler", PILLOW)  # runs from before it was there
    if max_aspect is None:
        return (TwoStepTransform if faults.two_step_resize else PairTransform)(resolution, resampler)
    kept = [name for name in ("two_step_resize", "overlapping_ranks") if getattr(faults, name)]
    if kept:
        raise ConfigError(
            f"data.max_aspect: expected null with faults.{kept[0]}=true (preset=released), which makes pictures square "
            f"and deals them out in its own way, got {max_aspect:g}; use null, or repair the fault"
        )
    return BucketTransform(bucket_sizes(resolution, max_aspect, multiple), resampler)


def build_module(config: DictConfig, editor: Editor) -> EditModule:
    """The LightningModule that trains an editor as the config says.

    Args:
        config: Of a run, with ``objective``, ``optimizer``, ``schedule`` and ``trainable``.
        editor: Built from the same config; what ``trainable`` does not name is frozen in place.

    Returns:
        The module; it puts the resolved config into every checkpoint.

    Raises:
        ConfigError: ``trainable`` names no list of the system.
    """
    patterns = config.model.trainable
    if config.trainable not in patterns:
        raise ConfigError(f"trainable: expected one of {', '.join(patterns)}, got {config.trainable}")
    if (config.objective.loss_align_weight > 0) != bool(config.model.guide.get("align")):
        raise ConfigError(
            "objective.loss_align_weight, model.guide.align: expected a weight > 0 together with align=true, got "
            f"{config.objective.loss_align_weight} and {str(config.model.guide.get('align')).lower()}"
        )
    module = EditModule(
        editor,
        instantiate(config.objective),
        instantiate(config.optimizer, _convert_="all"),
        instantiate(config.schedule, _convert_="all"),
        trainable=list(patterns[config.trainable]),
        seed=config.seed,
        config=resolved(config),
        faults=build_faults(config),
        sources=start_sources(config),
        compute=build_compute(config),
    )
    _check_new_rows(config, editor)
    return module


def build_compute(config: DictConfig) -> Compute:
    """Memory and speed of a step; a run from before there was a choice keeps everything as it is."""
    compute: Compute = instantiate(config.compute) if "compute" in config else AS_IT_IS
    return compute


def _check_new_rows(config: DictConfig, editor: Editor) -> None:
    """Without gradient before the visual tokens, layers that train would get a wrong one."""
    if config.model.guide.get("train_embeddings") != "new_rows":
        return
    mllm: Any = editor.guide.mllm
    if not (is_frozen(mllm.language_model.model.layers) and (mllm.projector is None or is_frozen(mllm.projector))):
        raise ConfigError(
            "model.guide.train_embeddings: expected frozen layers and projector with new_rows, got "
            f"trainable={config.trainable}; use trainable=paper, or train_embeddings=all"
        )


def build_trainer(
    config: DictConfig, resume_step: int | None = None, *, wandb_id: str | None = None
) -> lightning.Trainer:
    """Trainer with the callbacks and loggers of the config.

    Args:
        config: Of the run.
        resume_step: Steps that were done when the run was interrupted; its table is cut there. None = a new run.
        wandb_id: Of the run that goes on there; None = a new one.

    Returns:
        A trainer that writes below ``paths.run_dir``.
    """
    check_sharded(config)
    known: dict[str, dict[str, Any]] = {"csv": {"resume_step": resume_step}, "wandb": {"run_id": wandb_id}}
    loggers = [
        instantiate(node, _convert_="all", **known.get(str(name), {}))
        for name, node in config.logger.items()
        if node is not None
    ]
    for logger in loggers:
        logger.log_hyperparams(resolved(config))
    callbacks = [instantiate(node, _convert_="all") for node in config.callbacks.values() if node is not None]
    callbacks.append(SameConfig(config_hash(config), Path(config.paths.run_dir) / VERSIONS_FILE))
    trainer: lightning.Trainer = instantiate(
        config.trainer,
        logger=loggers,
        callbacks=callbacks,
        plugins=[CheckedCheckpointIO(), cluster_environment()],
        default_root_dir=str(config.paths.run_dir),
    )
    return trainer
