"""Models by name: those of the command line, and runs and exports found below a folder; the last used stay loaded."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mgie_lit.checkpoints.exports import INDEX_FILE
from mgie_lit.checkpoints.runs import has_checkpoints
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.editor import Editor
    from mgie_lit.sampling.call import MGIEPipelineOutput
    from mgie_lit.sampling.edit import SamplingOptions

CONFIG_FILE = "config.yaml"  # of a run
_DEPTH = 4  # folders below the one that is searched, e.g. runs/multirun/<sweep>/<trial>
_MOST_FOUND = 100


class EditModel(Protocol):
    """What the demo needs of a loaded model: `MGIEPipeline` and `LoadedEditor` have it."""

    options: SamplingOptions

    @property
    def editor(self) -> Editor:
        """Its parts."""

    def __call__(self, image: object, instruction: str, **settings: object) -> MGIEPipelineOutput:
        """Edit one picture."""


class Shelf:
    """Models to choose from.

    Args:
        names: Of the command line, the first is the default.
        runs_dir: Searched for more at every `names`.
        load: Name -> model on its device.
        num_loaded: How many stay in memory.
    """

    def __init__(
        self, names: Sequence[str], runs_dir: Path, load: Callable[[str], EditModel], *, num_loaded: int = 1
    ) -> None:
        self._given = tuple(dict.fromkeys(names))
        self._runs_dir = runs_dir
        self._load = load
        self._num_loaded = num_loaded
        self._loaded: OrderedDict[str, EditModel] = OrderedDict()

    @property
    def default(self) -> str:
        """The first model of the command line."""
        return self._given[0]

    def names(self) -> list[str]:
        """All there are now: those of the command line, then those found, the newest first."""
        return list(dict.fromkeys([*self._given, *(str(path) for path in find_models(self._runs_dir))]))

    def check(self, name: str) -> None:
        """Refuse what is no name here: a page must not make the demo open any folder.

        Args:
            name: As a client gave it.

        Raises:
            ConfigError: It is none of `names`.
        """
        if name not in self._given and name not in (names := self.names()):
            raise ConfigError(f"Model: expected one of {', '.join(names)}, got {name!r}; choose one of these")

    def is_loaded(self, name: str) -> bool:
        """Whether the model is in memory."""
        return name in self._loaded

    def get(self, name: str) -> EditModel:
        """The model, loaded if it is not in memory; called by the engine's thread alone.

        Args:
            name: One of `names`.

        Returns:
            The model on its device.
        """
        self.check(name)
        if name not in self._loaded:
            while len(self._loaded) >= self._num_loaded:
                self._loaded.popitem(last=False)  # first, so that both never take memory at once
            self._loaded[name] = self._load(name)
        self._loaded.move_to_end(name)
        return self._loaded[name]


def find_models(folder: Path) -> list[Path]:
    """Training runs with a checkpoint, and exports, below a folder; the newest first, at most a hundred."""
    return sorted(_walk(folder, _DEPTH), key=_changed, reverse=True)[:_MOST_FOUND]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return
    for path in map(Path, entries):
        if (path / INDEX_FILE).is_file() or ((path / CONFIG_FILE).is_file() and has_checkpoints(path)):
            yield path
        elif depth > 1 and not (path / CONFIG_FILE).is_file():  # inside a run there are no others
            yield from _walk(path, depth - 1)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
