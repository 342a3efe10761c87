"""Weights spread over the processes of a training (FSDP2): which modules are gathered together. Experimental."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.distributed.fsdp import fully_shard

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

    from mgie_lit.editor import Editor


def sharded_units(editor: Editor) -> dict[str, nn.Module]:
    """Modules whose weights are gathered together while they compute, by name.

    Each layer of the language model is a unit, so that one frozen layer at a time is whole on a device; so are its word
    embeddings, last norm and head, the edit head, the text encoder and the UNet. What a unit holds trains as a whole or
    not at all: a frozen tensor beside one that trains would be kept and reduced as if it trained. Vision tower,
    projector and autoencoder are small, frozen, and not called as modules: every process has all of them.

    Args:
        editor: What trains has been chosen.

    Returns:
        Units in the order of their computation; none holds another.

    Raises:
        ConfigError: Something trains that is in no unit, or a unit trains in part.
    """
    guide: Any = editor.guide
    units: dict[str, nn.Module] = {}
    mllm = getattr(guide, "mllm", None)
    if mllm is not None:
        prefix, language_model = "guide.mllm.language_model", mllm.language_model
        units[f"{prefix}.model.embed_tokens"] = language_model.model.embed_tokens
        for index, layer in enumerate(language_model.model.layers):
            units[f"{prefix}.model.layers.{index}"] = layer
        units[f"{prefix}.model.norm"] = language_model.model.norm
        units[f"{prefix}.lm_head"] = language_model.lm_head
    for name in ("edit_head", "text_encoder"):
        if getattr(guide, name, None) is not None:
            units[f"guide.{name}"] = getattr(guide, name)
    units["unet"] = editor.unet
    _check(editor, units)
    return units


def shard(editor: Editor, mesh: DeviceMesh) -> None:
    """Spread an editor's weights over the processes of a mesh, in place; their names stay.

    Args:
        editor: The same in all processes.
        mesh: One axis, over all processes.

    Raises:
        ConfigError: See `sharded_units`.
    """
    for name, unit in sharded_units(editor).items():
        # The edit head reads rows of the word embeddings after the language model has used them.
        fully_shard(unit, mesh=mesh, reshard_after_forward=not name.endswith("embed_tokens"))


def _check(editor: Editor, units: dict[str, nn.Module]) -> None:
    trains = {name: parameter.requires_grad for name, parameter in editor.named_parameters()}
    outside = [name for name, does in trains.items() if does and not any(name.startswith(f"{unit}.") for unit in units)]
    mixed = [
        unit
        for unit, module in units.items()
        if len({parameter.requires_grad for parameter in module.parameters()}) > 1
    ]
    if outside or mixed:
        raise ConfigError(
            "trainer=fsdp: expected whole units to train or not (trainable=paper), got "
            f"{', '.join([*outside[:3], *mixed[:3]])}; take trainable=paper, or trainer=ddp"
        )
