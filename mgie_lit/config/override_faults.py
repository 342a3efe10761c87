"""Which overrides are faulty, and why: one line each, in words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mgie_lit.config.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override

# ValueError and TypeError come through OmegaConf where a list is indexed with a word or merged with a value
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError)
_PLUGIN_HINT = "; more come with the extra: pip install 'mgie-lit[sweep]'"


def explain_faults(
    loader: ConfigLoader, load: Callable[[Sequence[str]], DictConfig], primary: str, overrides: Sequence[str]
) -> tuple[list[str], DictConfig | None]:
    """Find every faulty override by composing without the others that fail.

    Args:
        loader: Knows the groups and their options.
        load: Composes the primary config with the overrides it is given.
        primary: Name of the primary config.
        overrides: The overrides that do not compose together.

    Returns:
        One line per faulty override, in the order given, none where the config tree itself is at fault; and the config
        that the good ones make, None where there is none.
    """
    groups = set(list_groups(loader))
    faults: dict[int, str] = {}
    parsed: dict[int, Override] = {}
    for index, text in enumerate(overrides):
        override = parse_override(loader, text)
        if override is None:
            faults[index] = f"{text}: expected key=value, +key=value (new key) or ~key (remove), could not read it"
        elif fault := sweep_fault(override) or option_fault(loader, groups, override):
            faults[index] = fault
        else:
            parsed[index] = override
    try:
        config = load([])
    except COMPOSE_ERRORS:
        return list(faults.values()), None
    groups_first = sorted(parsed, key=lambda index: parsed[index].key_or_group not in groups)  # they bring keys
    config, failed = _compose_without_failing(load, config, {index: overrides[index] for index in groups_first})
    for index, error in failed.items():
        faults[index] = _describe(parsed[index], error, config, groups, primary)
    return [faults[index] for index in sorted(faults)], config


def _compose_without_failing(
    load: Callable[[Sequence[str]], DictConfig], config: DictConfig, pending: Mapping[int, str]
) -> tuple[DictConfig, dict[int, Exception]]:
    """The config that the good overrides make, and why each of the others fails."""
    good: list[str] = []
    while True:
        failed: dict[int, Exception] = {}
        for index, text in pending.items():
            try:
                config = load([*good, text])
                good.append(text)
            except COMPOSE_ERRORS as error:
                failed[index] = error
        if len(failed) in {0, len(pending)}:
            return config, failed
        pending = {index: pending[index] for index in failed}  # some may need what others brought


def parse_override(loader: ConfigLoader, text: str) -> Override | None:
    """One override of the command line, parsed by Hydra's grammar; None where that cannot read it."""
    try:
        override = OverridesParser.create(config_loader=loader).parse_overrides([text])[0]
    except HydraException:
        return None
    return override if override.key_or_group else None


def list_groups(loader: ConfigLoader, parent: str = "") -> Iterator[str]:
    """All config groups below ``parent``, as they are written in an override."""
    for name in loader.list_groups(parent):
        group = f"{parent}/{name}" if parent else name
        yield group
        yield from list_groups(loader, group)


def sweep_fault(override: Override) -> str | None:
    """What is wrong with an override of several values where one run was asked for."""
    if not override.is_sweep_override():
        return None
    return (
        f"{override.input_line}: several values make several runs; add -m to run them all, "
        f"or write a list as {override.key_or_group}=[...]"
    )


def option_fault(loader: ConfigLoader, groups: set[str], override: Override) -> str | None:
    """What is wrong with the option of a group override, e.g. ``model=mgei``."""
    group, value = override.key_or_group, override.value()
    if group not in groups or override.is_delete() or isinstance(value, dict):
        return None
    options = loader.get_group_options(group, ObjectType.CONFIG)
    chosen = value if isinstance(value, list) else [value]
    unknown = [
        str(option) for option in chosen if option is not None and str(option) not in options and "/" not in str(option)
    ]
    if not unknown or not options:
        return None
    hint = _PLUGIN_HINT if group in {"hydra/sweeper", "hydra/launcher"} else did_you_mean(unknown[0], options)
    return f"{override.input_line}: expected one of {', '.join(options)}{hint}"


def dotted_keys(config: DictConfig | ListConfig, prefix: str = "") -> Iterator[str]:
    """Every key of a config, e.g. ``optimizer`` and ``optimizer.lr``; nothing is resolved."""
    if not isinstance(config, DictConfig) or config._is_none() or config._is_missing() or config._is_interpolation():
        return
    for key in config:
        path = f"{prefix}{key!s}"
        yield path
        child = config._get_node(key)
        if isinstance(child, DictConfig):
            yield from dotted_keys(child, f"{path}.")


def first_lines(error: BaseException) -> str:
    """What an error of Hydra or OmegaConf says, with its cause's words and without their links and stack advice."""
    texts = [str(error)] + ([str(error.__cause__)] if error.__cause__ is not None else [])
    lines = (line.strip() for text in texts for line in text.splitlines())
    dropped = ("full_key:", "object_type=", "reference_type=", "See https://", "Config search path", "provider=")
    return " ".join(dict.fromkeys(line for line in lines if line and not line.startswith(dropped)))


def _describe(override: Override, error: Exception, config: DictConfig, groups: set[str], primary: str) -> str:
    """Say why Hydra refused an override that parses and whose option, where it is a group, exists."""
    key, text = override.key_or_group, override.input_line or ""
    is_hydra = key.startswith("hydra")
    known = [name for name in dotted_keys(config) if name.startswith("hydra") == is_hydra]
    known += [group for group in groups if group.startswith("hydra") == is_hydra]
    if key in groups and key not in config.hydra.runtime.choices and not override.is_add():
        return f"{text}: {primary} has no group {key} to change; add it with +{text.lstrip('+~')}"
    exists = OmegaConf.select(config, key, throw_on_missing=False, throw_on_resolution_failure=False) is not None
    if override.is_delete() and not exists:
        return f"{text}: no such key to remove{did_you_mean(key, known)}"
    if override.is_add() and exists:
        return f"{text}: the key is there already; write {text[1:]} to change it"
    if not exists and key not in known and not override.is_add() and not override.is_force_add():
        return f"{text}: no such key{did_you_mean(key, known)} (a new key is added with +{text})"
    return f"{text}: {first_lines(error)}"
