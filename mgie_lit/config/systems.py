"""What an evaluation measures: every system by its name, its weights and its writer."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hydra.utils import instantiate

from mgie_lit.config.devices import choose_device
from mgie_lit.config.loaded import LoadedEditor, attach_writer, describe_weights, load_trained_editor
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.evaluation.systems import EditorSystem, EditSystem, PredictionFolder
from mgie_lit.guides.text import TextGuide
from mgie_lit.models.layout import lay_for_editing
from mgie_lit.sampling.presets import apply_preset
from mgie_lit.sampling.solvers import make_scheduler

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mgie_lit.editor import Editor

LOG = logging.getLogger(__name__)

TRAINED = "trained"  # conf/model/trained.yaml: whatever the checkpoint holds


@dataclass(frozen=True)
class System:
    """What is evaluated."""

    edit: EditSystem
    source: dict[str, object]  # where it comes from, plain values
    sampling: dict[str, object]  # how it samples, plain values


def check_trains(model: DictConfig) -> None:
    """Stop a training of a system in which nothing trains.

    Args:
        model: The config's node.

    Raises:
        ConfigError: It is for evaluation only.
    """
    if not model.trainable:
        raise ConfigError(
            f"model: expected a system that trains, got {model.name}, which is for evaluation only; "
            f"use `mgie eval model={model.name} ...` (docs/systems.md)"
        )


def start_from_editor(editor: Editor, model: DictConfig) -> None:
    """Let a fine-tuning begin with the weights of ``model.editor``, a run of InstructPix2Pix, if it names one.

    Args:
        editor: To be trained; changed in place.
        model: The config's node.

    Raises:
        CheckpointError: It is another kind of run, or the sizes differ.
    """
    source = model.get("editor")
    if source is None:
        return
    trained = load_trained_editor(str(source))
    _require_reader_of_instructions(trained, str(source))
    weights, own = trained.editor.state_dict(), editor.state_dict()
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in own.items()}:
        raise CheckpointError(
            f"model.editor: expected a run of the same size, got {source}, whose weights have other names or shapes; "
            "choose the size it was trained with"
        )
    editor.load_state_dict(weights)


def build_system(config: DictConfig) -> System:
    """The system of an evaluation.

    Args:
        config: Composed from ``eval.yaml``.

    Returns:
        The system, on its device.

    Raises:
        ConfigError: Too much or too little is given for ``model``.
        CheckpointError: Weights can not be loaded, or are those of another system.
        DataError: ``predictions`` is not a folder.
    """
    if config.predictions is not None:
        folder = PredictionFolder(
            config.predictions,
            allow_missing=config.allow_missing,
            layout=config.predictions_layout,
            turns=config.turns,
            seeds=range(config.seed, config.seed + config.num_seeds),
        )
        return System(folder, {"predictions": str(config.predictions)}, {})
    if "system" in config.model:
        return System(instantiate(config.model.system), {"system": config.model.name}, {})
    source = str(config.model.editor if config.checkpoint is None else config.checkpoint)
    loaded = load_trained_editor(source, config.weights)
    name = _fit_to_model(loaded, config.model, source)
    writer = attach_writer(loaded, config.model, name, config.weights)
    loaded.to(choose_device(config.device, option="device"))
    lay_for_editing(loaded.editor)
    sampling = {"preset": "plain", **config.sampling}  # runs from before there were presets
    try:
        options = apply_preset(sampling.pop("preset"), loaded.options, loaded.editor.scheduler, **sampling)
        make_scheduler(loaded.editor.scheduler, options.solver, options.num_inference_steps)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"sampling.{error}") from error
    _warn_about_resolution(options.resolution, config)
    described = {"system": name, **describe_weights("checkpoint", source, config.weights)}
    if writer is not None:
        described |= describe_weights("writer", writer, config.weights)
    return System(EditorSystem(loaded.editor, options), described, asdict(options))


def check_sources(config: DictConfig) -> None:
    """Whether exactly what the system needs is given.

    Args:
        config: Composed from ``eval.yaml``.

    Raises:
        ConfigError: Weights are missing, or there are too many; the message says what the system needs.
    """
    name, needs_none = config.model.name, "system" in config.model
    has_editor = config.model.get("editor") is not None
    given = [key for key in ("checkpoint", "predictions") if config[key] is not None]
    if given and (needs_none or (name != TRAINED and given == ["predictions"])):
        raise ConfigError(f"{given[0]}: expected none with model={name}, got {config[given[0]]}; leave one of them out")
    if needs_none:
        return
    if name == TRAINED or config.model.trainable:
        if len(given) == 1:
            return
        if name != TRAINED:
            raise ConfigError(
                f"checkpoint: expected the weights of model={name}, got {'several sources' if given else 'none'}; name "
                "a run with checkpoint=<run dir | .ckpt>: random weights are never evaluated"
            )
        raise ConfigError(
            "eval: expected either checkpoint=<run dir | .ckpt | export folder>, predictions=<folder of images> or a "
            "system without weights such as model=copy"
        )
    if has_editor == bool(given):
        raise ConfigError(
            f"model.editor: expected one trained InstructPix2Pix for model={name}, got {'two' if given else 'none'}; "
            "name it with model.editor=<run of model=instruct_pix2pix, or its published folder>"
        )


def _fit_to_model(loaded: LoadedEditor, model: DictConfig, weights: str) -> str:
    """Check that the weights are those of ``model``, let them read what it reads, and give its name."""
    if model.name == TRAINED:
        return loaded.name
    if model.trainable:
        if loaded.name != model.name:
            raise CheckpointError(
                f"checkpoint: expected a run of model={model.name}, got one of model={loaded.name} in {weights}; leave "
                "model= out to evaluate what the checkpoint holds"
            )
        return loaded.name
    guide = _require_reader_of_instructions(loaded, weights)
    guide.prompt.reads = model.reads
    return str(model.name)


def _require_reader_of_instructions(loaded: LoadedEditor, source: str) -> TextGuide:
    guide = loaded.editor.guide
    if not isinstance(guide, TextGuide) or guide.prompt.needs_expressive:
        raise CheckpointError(
            f"model.editor: expected a run of model=instruct_pix2pix, or its published folder, got one of "
            f"model={loaded.name} in {source}"
        )
    return guide


def _warn_about_resolution(resolution: int, config: DictConfig) -> None:
    if resolution != config.size.resolution:
        LOG.warning(
            "the model works at %s px, data that makes its own images makes them at %s px; give size.resolution=%s",
            resolution,
            config.size.resolution,
            resolution,
        )
