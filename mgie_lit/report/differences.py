"""What the configs of several runs do not have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from mgie_lit.errors import DataError
from mgie_lit.report.read import CONFIG_FILE
from mgie_lit.report.tables import Cell, Table, TableRow
from mgie_lit.report.verdict import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mgie_lit.report.read import Evaluation, TrainingRun

_ALWAYS_DIFFERENT = ("paths.run_dir",)


def config_differences(parts: Sequence[TrainingRun] | Sequence[Evaluation], title: str) -> Table | None:
    """A row a config key whose value is not the same everywhere, a column a directory.

    Args:
        parts: Runs, or evaluations; those without a recorded config are left out.
        title: Of the table.

    Returns:
        None where fewer than two have a config, or nothing differs.

    Raises:
        DataError: A config is no YAML; the message gives its path.
    """
    configs = {part.name: dict(_flatten(_load(part))) for part in parts if part.origin.config}
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    different = [key for key in keys if key not in _ALWAYS_DIFFERENT and _num_values(configs, key) > 1]
    if not different:
        return None
    rows = [TableRow(key, [Cell(config.get(key, MISSING)) for config in configs.values()]) for key in different]
    records: list[dict[str, object]] = [
        {"key": key} | {name: config.get(key) for name, config in configs.items()} for key in different
    ]
    return Table(title, ["key", *configs], rows, records, f"{MISSING} = the key is not there.")


def _num_values(configs: dict[str, dict[str, str]], key: str) -> int:
    return len({config.get(key) for config in configs.values()})


def _load(part: TrainingRun | Evaluation) -> object:
    try:
        return yaml.safe_load(part.origin.config)
    except yaml.YAMLError as error:
        raise DataError(
            f"{part.path / CONFIG_FILE}: expected YAML, got {str(error).splitlines()[0]}; make the directory again, or "
            "leave it out"
        ) from error


def _flatten(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value as text; lists stay whole.

    >>> list(_flatten({"a": {"b": 1, "c": [1, None]}, "d": {}}))
    [('a.b', '1'), ('a.c', '[1, null]'), ('d', '{}')]
    """
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
