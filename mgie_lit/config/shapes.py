"""A training's objects without numbers: everything is built as for the run, nothing is loaded or allocated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from accelerate import init_empty_weights
from omegaconf import OmegaConf

from mgie_lit.config.build import build_editor
from mgie_lit.config.runs import resolved

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mgie_lit.data.datamodule import EditDataModule
    from mgie_lit.editor import Editor
    from mgie_lit.training.module import EditModule


def build_shapes(config: DictConfig, *, tokenizer: str | None = None) -> EditModule:
    """The module of a config, its parameters on the meta device; weights to start from need not be there.

    Args:
        config: Of a training; it is not changed.
        tokenizer: Stands in for ``size.tokenizer.source``, for places where that is missing; sizes do not depend on it.

    Returns:
        The module with its trainable parameters chosen; buffers and scheduler are real.

    Raises:
        ConfigError: The parts do not fit together.
        CheckpointError: The tokenizer can not be read.
    """
    from mgie_lit.config.build_training import build_module  # brings Lightning

    content = resolved(config)
    size = content["size"]
    size["start"] = dict.fromkeys(size.get("start") or {})
    if tokenizer is not None:
        size["tokenizer"]["source"] = tokenizer
    bare = OmegaConf.create(content)
    with init_empty_weights(include_buffers=False):
        editor = build_editor(bare)
    return build_module(bare, editor)


def build_unseen_data(config: DictConfig, editor: Editor) -> EditDataModule:
    """The batches of a config, to be checked: no image is opened, and what is cached of the images is left alone.

    Args:
        config: Of a training; it is not changed.
        editor: Built from it, with or without weights.

    Returns:
        Texts and numbers of examples are those of the training, but that bad images count as good ones.

    Raises:
        ConfigError: The data can not be given as the config says.
    """
    from mgie_lit.config.build_training import build_datamodule  # brings Lightning

    content = resolved(config)
    content["data"]["cache"] = None
    _leave_images(content["data"]["reader"])
    return build_datamodule(OmegaConf.create(content), editor)


def _leave_images(node: Any) -> None:  # noqa: ANN401 - of a config
    """Give every reader in it that would try all images a list of the bad ones, which is empty."""
    if not isinstance(node, dict):
        return
    if node.get("on_error") == "skip" and node.get("exclude") is None:
        node["exclude"] = os.devnull
    for inner in node.values():
        _leave_images(inner)
