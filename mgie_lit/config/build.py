"""The composition root: config -> objects. Nothing below it knows of configs.

What only a training needs is imported where it is built: Lightning alone takes seconds, and editing does without it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mgie_lit.checkpoints.runs import CONFIG_KEY, find_checkpoint, load_checkpoint, load_editor_weights
from mgie_lit.config.runs import CONFIG_FILE, resolved
from mgie_lit.config.start import load_start, start_sources, without_draws
from mgie_lit.editor import Editor
from mgie_lit.errors import ConfigError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.models.unet import zero_output
from mgie_lit.pipeline import TINY, MGIEPipeline
from mgie_lit.prompts import EditPrompt

if TYPE_CHECKING:
    import lightning

    from mgie_lit.data.datamodule import EditDataModule
    from mgie_lit.data.readers import EditDataset
    from mgie_lit.guides.mllm import MLLMGuide
    from mgie_lit.training.module import EditModule


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


def build_faults(config: DictConfig) -> Faults:
    """Which faults of the released code are kept; none in the config of a run that knows of none."""
    faults: Faults = instantiate(config.faults) if "faults" in config else NO_FAULTS
    return faults


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
    make = partial(instantiate, _convert_="all")
    faults = build_faults(config)
    prompt = build_prompt(config)
    start = config.size.start
    with without_draws(start.mllm):
        mllm = make(config.size.mllm, image_patch_id=prompt.image_patch_id)
    guide: MLLMGuide = make(config.model.guide, _partial_=True)(  # instantiate would turn `faults` into a dict
        mllm=mllm,
        edit_head=make(config.size.edit_head),
        prompt=prompt,
        image_processor=make(config.size.image_processor),
        faults=faults,
    )
    with without_draws(start.diffusion):
        parts = (make(config.size.autoencoder), make(config.size.unet))
    try:
        editor = Editor(
            guide, *parts, make(config.sampler.scheduler), source_scale=config.size.source_scale, faults=faults
        )
    except ValueError as error:
        raise ConfigError(f"size, sampler: {error}") from error
    if editor.states_affine:
        zero_output(editor.unet)
    load_start(editor, guide, config, faults)
    return editor


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


def build_datamodule(config: DictConfig, editor: Editor) -> EditDataModule:
    """Batches of ``data`` for an editor."""
    from mgie_lit.data.collate import EditCollator
    from mgie_lit.data.datamodule import EditDataModule
    from mgie_lit.data.transforms import PairTransform, TwoStepTransform

    guide: Any = editor.guide
    faults = build_faults(config)
    transform = (TwoStepTransform if faults.two_step_resize else PairTransform)(config.size.resolution)
    collator = EditCollator(guide.prompt, guide.image_processor, transform, faults=faults)
    return EditDataModule(
        instantiate(config.data.reader, _convert_="all"),
        collator,
        num_examples=config.data.num_examples,
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        seed=config.seed,
        accumulation=config.trainer.accumulate_grad_batches,
        faults=faults,
    )


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
    from mgie_lit.training.module import EditModule

    patterns = config.model.trainable
    if config.trainable not in patterns:
        raise ConfigError(f"trainable: expected one of {', '.join(patterns)}, got {config.trainable}")
    if (config.objective.loss_align_weight > 0) != bool(config.model.guide.get("align")):
        raise ConfigError(
            "objective.loss_align_weight, model.guide.align: expected a weight > 0 together with align=true, got "
            f"{config.objective.loss_align_weight} and {str(config.model.guide.get('align')).lower()}"
        )
    return EditModule(
        editor,
        instantiate(config.objective),
        instantiate(config.optimizer, _convert_="all"),
        instantiate(config.schedule, _convert_="all"),
        trainable=list(patterns[config.trainable]),
        seed=config.seed,
        config=resolved(config),
        faults=build_faults(config),
        sources=start_sources(config),
    )


def build_trainer(config: DictConfig, resume_step: int | None = None) -> lightning.Trainer:
    """Trainer with the callbacks and loggers of the config.

    Args:
        config: Of the run.
        resume_step: Steps that were done when the run was interrupted; its table is cut there. None = a new run.

    Returns:
        A trainer that writes below ``paths.run_dir``.
    """
    loggers = [
        instantiate(node, **({"resume_step": resume_step} if name == "csv" else {}))
        for name, node in config.logger.items()
        if node is not None
    ]
    callbacks = [instantiate(node, _convert_="all") for node in config.callbacks.values() if node is not None]
    trainer: lightning.Trainer = instantiate(
        config.trainer, logger=loggers, callbacks=callbacks, default_root_dir=str(config.paths.run_dir)
    )
    return trainer


def build_metrics(config: DictConfig) -> dict[str, Any]:
    """Metrics by name."""
    return {str(name): instantiate(node) for name, node in config.metrics.items() if node is not None}


def load_editor(path: Path) -> tuple[Editor, DictConfig]:
    """Editor and config of a run directory or checkpoint file.

    Args:
        path: What ``find_checkpoint`` takes.

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
    load_editor_weights(editor, checkpoint, file, sources=start_sources(config))
    return editor.eval(), config


def load_pipeline(model: str) -> MGIEPipeline:
    """A pipeline from ``tiny``, a run directory, a ``.ckpt`` file, an export folder or a hub id.

    Args:
        model: One of these, as the user wrote it; ``~`` is expanded.

    Returns:
        The pipeline on the CPU, with the sampling options of the run or export.

    Raises:
        CheckpointError: Nothing can be loaded there; the message says what was expected.
    """
    path = Path(model).expanduser()
    if model != TINY and (path.is_file() or (path / CONFIG_FILE).is_file()):
        editor, config = load_editor(path)
        return MGIEPipeline.from_editor(editor, instantiate(config.sampler.options))
    return MGIEPipeline.from_pretrained(model)
