"""The card of a trained run: what its own files record of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.commands import overrides_of
from mgie_lit.checkpoints.cards.data_sets import data_sets_of
from mgie_lit.checkpoints.cards.origins import Origin, origins_of, trained_origin
from mgie_lit.checkpoints.cards.results import Results, other_weights
from mgie_lit.config.runs import VERSIONS_FILE, resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

_START_PARTS = {"mllm": "mllm", "vision": "vision tower", "edit_head": "edit head", "diffusion": "unet, autoencoder"}


def run_card(file: Path, config: DictConfig, *, step: int, weights: str) -> Card:
    """What a checkpoint's run says of itself.

    Args:
        file: The checkpoint.
        config: That it carries.
        step: Optimizer steps that it has done.
        weights: ``ema`` or ``raw``: which of its weights are exported.

    Returns:
        The card, without numbers: the validation of a training is of few examples and has no intervals.
    """
    run_dir = file.parent.parent
    content = resolved(config)
    versions, overrides = _versions(run_dir), overrides_of(run_dir)
    commit = versions.get("git_commit")
    changed = ", with uncommitted changes" if versions.get("git_dirty") else ""
    packages = {"mgie_lit": versions.get("mgie_lit"), **(versions.get("packages") or {})}
    kept = ("mgie_lit", "torch", "lightning", "transformers", "diffusers")
    rows = {
        "command": "not recorded" if overrides is None else f"`{' '.join(['mgie train', *overrides])}`",
        "commit": f"`{commit}`{changed}" if commit else "not recorded",
        "steps": f"{step}, {_step_size(content)}",
        "weights": "moving average" if weights == "ema" else "as the optimizer left them",
        "trained": f"`model={content['model']['name']}`, `trainable={content['trainable']}`, seed {content['seed']}",
        "works at": f"{content['size']['resolution']} px",
        "versions": ", ".join(f"{name} {packages[name]}" for name in kept if packages.get(name)) or "not recorded",
    }
    return Card(origins=tuple(_origins(content)), data=tuple(data_sets_of(content["data"])), training=rows)


def results_of(folder: Path, source: Path, described: Mapping[str, object]) -> Results:
    """An evaluation's results, if it measured these very weights.

    Args:
        folder: The evaluation's directory.
        source: Of the weights, for the message.
        described: What ``describe_weights`` says of them.

    Returns:
        The results.

    Raises:
        CheckpointError: It is no evaluation, or one of other weights.
    """
    results = Results.read(folder)
    found = results.source
    if not described.get("sha256") or any(found.get(key) != described.get(key) for key in ("sha256", "weights")):
        raise other_weights(results, folder, source)
    return results


def _origins(content: dict[str, Any]) -> list[Origin]:
    start = content["size"].get("start") or {}
    named = {key: str(start[key]) for key in _START_PARTS if start.get(key)}
    if content["model"].get("editor"):
        named["editor"] = str(content["model"]["editor"])
    origins = [one for key, folder in named.items() for one in origins_of(Path(folder), _START_PARTS.get(key, key))]
    trained = content["model"]["trainable"].get(content["trainable"], [])
    return [*origins, trained_origin(f"trained here: {', '.join(f'`{pattern}`' for pattern in trained)}")]


def _step_size(content: dict[str, Any]) -> str:
    size = content.get("effective_batch_size")
    if size is None:
        trainer, per_process = content["trainer"], content["data"].get("batch_size")
        return f"{per_process} examples a batch, {trainer.get('accumulate_grad_batches', 1)} batches a step and process"
    return f"{size} examples a step"


def _versions(run_dir: Path) -> dict[str, Any]:
    try:
        content = json.loads((run_dir / VERSIONS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
