"""Every ``_target_`` node of a config against the signature of what it names."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from mgie_lit.config.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ALLOWED_PACKAGES = ("mgie_lit", "torch", "lightning", "torchmetrics", "diffusers", "transformers")
_INSTANTIATE_KEYS = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def target_faults(node: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - any YAML value
    """Check all ``_target_`` nodes in a tree of plain containers.

    Args:
        node: A resolved config as dicts, lists and values.
        path: Dotted path of ``node``, for the messages.

    Yields:
        One line per fault: a package that is not allowed, a name that does not exist, a parameter it does not have.
    """
    if isinstance(node, list):
        for index, child in enumerate(node):
            yield from target_faults(child, f"{path}[{index}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield from _node_faults(node, path)
    for key, child in node.items():
        yield from target_faults(child, f"{path}.{key}" if path else str(key))


def locate(target: str) -> Any:  # noqa: ANN401 - a class or function
    """Import the class or function that a dotted name stands for.

    Args:
        target: E.g. ``"torch.optim.AdamW"``.

    Returns:
        The class or function.

    Raises:
        ImportError: A part of the name does not exist; the message names it and the nearest one that does.
    """
    parts = target.split(".")
    found: Any = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], start=1):
        parent = ".".join(parts[:index])
        if not hasattr(found, part):
            try:
                importlib.import_module(f"{parent}.{part}")
            except ModuleNotFoundError as error:
                if error.name != f"{parent}.{part}" and inspect.ismodule(found):
                    raise  # the module is there, but something it needs is not
                names = [name for name in dir(found) if not name.startswith("_")]
                raise ImportError(f"{parent} has no {part}{did_you_mean(part, names)}") from None
        found = getattr(found, part)
    return found


def _node_faults(node: Mapping[str, Any], path: str) -> Iterator[str]:
    target = node["_target_"]
    where = f"{path}._target_" if path else "_target_"
    if not isinstance(target, str) or target.partition(".")[0] not in ALLOWED_PACKAGES or "." not in target:
        yield f"{where}: expected a class or function of {', '.join(ALLOWED_PACKAGES)}, got {target!r}"
        return
    try:
        found = locate(target)
    except Exception as error:  # whatever an import raises is the answer
        yield f"{where}: cannot import {target}: {error}"
        return
    if not callable(found):
        yield f"{where}: expected a class or function, but {target} is a {type(found).__name__}"
        return
    yield from _argument_faults(found, node, path)


def _argument_faults(found: Callable[..., Any], node: Mapping[str, Any], path: str) -> Iterator[str]:
    """Names that the signature does not have; missing ones may be given when the object is built."""
    try:
        signature = inspect.signature(found)
    except ValueError:  # some C functions have none
        return
    parameters = signature.parameters.values()
    named = [p.name for p in parameters if p.kind not in _VARIADIC and p.kind is not p.POSITIONAL_ONLY]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    given = {str(key): value for key, value in node.items() if key not in _INSTANTIATE_KEYS}
    unknown = [] if takes_any else [name for name in given if name not in named]
    for name in unknown:
        yield (
            f"{path}.{name}: {node['_target_']} has no parameter {name}{did_you_mean(name, named)} "
            f"(it takes {', '.join(named) or 'none'})"
        )
    positional = node.get("_args_") or []
    try:
        signature.bind_partial(*positional, **{name: given[name] for name in given if name not in unknown})
    except TypeError as error:
        yield f"{path}._args_: {node['_target_']}: {error}"
