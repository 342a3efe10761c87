"""All faults of a composed config at once, before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from mgie_lit.config.override_faults import first_lines
from mgie_lit.config.ranges import range_faults
from mgie_lit.config.targets import target_faults
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_UNRESOLVED = object()
_STARTS = ("mllm", "edit_head", "diffusion")  # what an export has weights for


def validate_config(config: DictConfig, *, unused: Collection[str] = ()) -> None:
    """Check that every value is there and in range, and that every ``_target_`` takes what it is given.

    Targets are imported for it, so that this takes as long as importing torch. Hydra's own node is left out.

    Args:
        config: A composed config; it is not changed.
        unused: Top-level keys that the job does not build from, so that they may be incomplete.

    Raises:
        ConfigError: There are faults; the message has a line for each, with its dotted path.
    """
    content, faults = _plain_content(config, unused)
    faults += _start_faults(content)
    faults += range_faults(_leaves(content))
    faults += target_faults(content)
    if faults:
        raise ConfigError("\n".join(faults))


def value_faults(config: DictConfig) -> list[str]:
    """Values out of range, one line each; what is missing or cannot be resolved is left to `validate_config`."""
    content, _ = _plain_content(config)
    return list(range_faults(_leaves(content)))


def _plain_content(config: DictConfig, unused: Collection[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """The config in plain containers, and what of it cannot be resolved."""
    content: dict[str, Any] = {}
    faults: list[str] = []
    for key in config:
        if key != "hydra" and key not in unused:
            _put(content, str(key), _plain(config, key, str(key), faults))
    return content, faults


def _plain(container: DictConfig | ListConfig, key: Any, path: str, faults: list[str]) -> Any:  # noqa: ANN401
    """Resolve one entry into plain containers; what cannot be resolved is noted in ``faults`` and left out."""
    try:
        value = container[key]
    except MissingMandatoryValue:
        faults.append(f"{path}: a value is needed; give it as {path}=<value>")
        return _UNRESOLVED
    except OmegaConfBaseException as error:
        faults.append(f"{path}: cannot resolve {container._get_node(key)}: {first_lines(error)}")
        return _UNRESOLVED
    if isinstance(value, DictConfig):
        result: dict[str, Any] = {}
        for name in value:
            _put(result, str(name), _plain(value, name, f"{path}.{name!s}", faults))
        return result
    if isinstance(value, ListConfig):
        items = (_plain(value, index, f"{path}[{index}]", faults) for index in range(len(value)))
        return [item for item in items if item is not _UNRESOLVED]
    return value


def _start_faults(content: dict[str, Any]) -> Iterator[str]:
    """One folder for everything does not say which parts start from it."""
    start = content.get("size", {}).get("start", {})
    if not isinstance(start, dict):
        got, folder = ("null", "<folder>") if start is None else (start, start)
        wanted = " ".join(f"size.start.{part}={folder}" for part in _STARTS)
        yield f"size.start: expected a folder for each part, got {got}; give {wanted}, or those of them that you mean"


def _put(container: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401
    if value is not _UNRESOLVED:
        container[key] = value


def _leaves(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; lists count as values."""
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
