"""Editors with their weights, by name: runs, exports, published folders; and who writes for those that read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate

from mgie_lit.checkpoints.exports import TINY, TINY_DIR
from mgie_lit.checkpoints.instruct_pix2pix import is_instruct_pix2pix, open_instruct_pix2pix
from mgie_lit.checkpoints.integrity import folder_digest
from mgie_lit.checkpoints.runs import EMA, chosen_weights, find_checkpoint, load_checkpoint
from mgie_lit.config import build
from mgie_lit.config.runs import CONFIG_FILE
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.guides.text import TextGuide
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.call import MGIEPipelineOutput, call_editor
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.sampling.presets import Preset, apply_preset
from mgie_lit.sampling.solvers import Solver

if TYPE_CHECKING:
    from PIL import Image

    from mgie_lit.editor import Editor

OWN_TEXTS = "data"  # value of model.writer: the data set's own expressive instructions
_MLLM_MODEL = "mgie"  # of runs that do not say which system they are, and of exports
_PUBLISHED = "instruct_pix2pix"  # of diffusers folders


@dataclass
class LoadedEditor:
    """An editor with its weights, called as `MGIEPipeline` is."""

    editor: Editor
    options: SamplingOptions
    model: Mapping[str, Any]  # the node `model` of its run; a name alone for what is no run

    @property
    def name(self) -> str:
        """Which system it is."""
        return str(self.model.get("name", _MLLM_MODEL))

    def to(self, device: torch.device | str) -> LoadedEditor:
        """Move all parts, the writer too."""
        self.editor.to(device)
        return self

    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image],
        instruction: str | Sequence[str],
        *,
        preset: Preset = "plain",
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        solver: Solver | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> MGIEPipelineOutput:
        """Edit one image or several; the arguments are those of `MGIEPipeline`."""
        options = apply_preset(
            preset,
            self.options,
            self.editor.scheduler,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            guidance_interval=guidance_interval,
            solver=solver,
        )
        return call_editor(
            self.editor, options, image, instruction, generator=generator, latents=latents, on_step=on_step
        )


def load_edit_pipeline(model: str, weights: str = EMA) -> MGIEPipeline | LoadedEditor:
    """What ``mgie edit`` calls.

    Args:
        model: As for `load_trained_editor`, or anything that `MGIEPipeline` loads.
        weights: As for `load_trained_editor`.

    Returns:
        A pipeline, or an editor that is called like one.

    Raises:
        CheckpointError: Nothing can be loaded there.
        ConfigError: The system reads what a writer writes, and its run names none.
    """
    path = Path(model).expanduser()
    if not (_is_run(path) or is_instruct_pix2pix(path)):
        _require_choice(model, weights)
        return build.load_pipeline(model)
    loaded = load_trained_editor(model, weights)
    if isinstance(loaded.editor.guide, MLLMGuide):
        return MGIEPipeline.from_editor(loaded.editor, loaded.options)
    attach_writer(loaded, {}, loaded.name, weights)
    return loaded


def load_trained_editor(model: str, weights: str = EMA) -> LoadedEditor:
    """An editor with its weights, of whatever system.

    Args:
        model: Run directory, ``.ckpt`` file, diffusers folder of InstructPix2Pix, or what `MGIEPipeline` loads:
            ``tiny``, an export folder, a hub id.
        weights: Of a run or checkpoint: ``ema``, the moving average where it has one, or ``raw``, what the optimizer
            left.

    Returns:
        The editor in eval mode on the CPU, without a writer.

    Raises:
        CheckpointError: Nothing can be loaded there.
        ConfigError: Weights without a choice were to be ``raw``.
    """
    path = Path(model).expanduser()
    if _is_run(path):
        editor, config = build.load_editor(path, weights)
        return LoadedEditor(editor, instantiate(config.sampler.options), config.model)
    _require_choice(model, weights)
    if is_instruct_pix2pix(path):
        editor, options = open_instruct_pix2pix(path)
        return LoadedEditor(editor, options, {"name": _PUBLISHED})
    pipeline = build.load_pipeline(model)
    return LoadedEditor(pipeline.editor, pipeline.options, {"name": _MLLM_MODEL})


def attach_writer(loaded: LoadedEditor, model: Mapping[str, Any], name: str, weights: str = EMA) -> str | None:
    """Give an editor that reads expressive instructions who writes them.

    Args:
        loaded: Its guide is changed in place.
        model: The node ``model`` of the evaluation; what it says goes before what the run of ``loaded`` says.
        name: Of the system, for messages.
        weights: Of the writer, where it has a choice.

    Returns:
        Where the writer comes from; None where the system needs none.

    Raises:
        ConfigError: A writer is missing, or given to a system that has no use for one.
        CheckpointError: The writer can not be loaded, or sees what it should not (or does not what it should).
    """
    guide = loaded.editor.guide
    writer = model.get("writer") or loaded.model.get("writer")
    if not isinstance(guide, TextGuide) or not guide.prompt.needs_expressive:
        if model.get("writer") is not None:
            raise ConfigError(f"model.writer: expected none, {name} writes or reads its own words; leave it out")
        return None
    if writer is None:
        raise ConfigError(
            f"model.writer: {name} reads expressive instructions, expected who writes them, got none; name a trained "
            f"model with model.writer=<run>, or evaluate on the data set's own texts with model.writer={OWN_TEXTS}"
        )
    if writer == OWN_TEXTS:
        return str(writer)
    sees_image = model.get("writer_sees_image", loaded.model.get("writer_sees_image"))
    guide.writer = _load_writer(str(writer), sees_image=sees_image, weights=weights)
    return str(writer)


def _load_writer(source: str, *, sees_image: bool | None, weights: str) -> MLLMGuide:
    loaded = load_trained_editor(source, weights if _is_run(Path(source).expanduser()) else EMA)
    guide = loaded.editor.guide
    if isinstance(guide, MLLMGuide) and sees_image in (None, guide.sees_image):
        return guide
    wanted = {True: "model=mgie", False: "model=lgie", None: "model=mgie or model=lgie"}[sees_image]
    eyes = f", which sees {'the' if guide.sees_image else 'no'} image"
    raise CheckpointError(
        f"model.writer: expected a run of {wanted}, got one of model={loaded.name}{eyes}, in {source}"
    )


def describe_weights(key: str, model: str, weights: str = EMA) -> dict[str, object]:
    """Which weights a name stood for: of a run the file, its step and its hash; of a folder the hash of its weights.

    Args:
        key: What the weights are for, ``checkpoint`` or ``writer``.
        model: As for `load_trained_editor`.
        weights: As there.

    Returns:
        Plain values for ``metrics.json``.
    """
    path = Path(model).expanduser()
    prefix = "" if key == "checkpoint" else f"{key}_"
    if not _is_run(path):
        folder = TINY_DIR if model == TINY else path
        return {key: model, **({prefix + "sha256": folder_digest(folder)} if folder.is_dir() else {})}
    file = find_checkpoint(path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    content = load_checkpoint(file)
    facts = {"file": str(file), "global_step": int(content["global_step"]), "sha256": digest}
    facts["weights"] = chosen_weights(content, weights)
    return {key: model, **{prefix + name: value for name, value in facts.items()}}


def _require_choice(model: str, weights: str) -> None:
    """Published weights and exports have one kind alone."""
    if weights != EMA:
        raise ConfigError(
            f"weights: expected a run directory or a .ckpt file, of which {weights!r} could be chosen, got {model}; "
            "leave the choice out"
        )


def _is_run(path: Path) -> bool:
    return path.is_file() or (path / CONFIG_FILE).is_file()
