"""``sweep.yaml``: what a sweep was started with, so that it can be continued."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.trials import SWEEP_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.override_parser.types import Override

RESUME_KEY, DIRECTORY_KEY = "sweep.resume", "hydra.sweep.dir"
# how trials are run, which may change; what they are may not
_CHANGEABLE = ("hydra/launcher", "hydra.launcher.", "sweep.devices", "hydra.verbose")
_CHANGEABLE_OF_OPTUNA = ("hydra.sweeper.n_trials", "hydra.sweeper.n_jobs", "hydra.sweeper.max_failure_rate")
CHANGEABLE = (*_CHANGEABLE, *_CHANGEABLE_OF_OPTUNA)


@dataclass(frozen=True)
class SweepRecord:
    """What was typed, and what else decides the trials.

    Attributes:
        command: ``train`` or ``eval``.
        overrides: As typed.
        config_name: Hydra's ``--config-name``, and so on; None where not given.
        config_path: A tree of configs in place of ours.
        config_dir: A further folder of configs.
        directory: Where the command was typed: relative paths start there.
        direction: ``minimize`` or ``maximize``.
        seed: From which Optuna's sampler draws.
        name: Marks the sweep's trials in a study; it stays when the directory is renamed.
    """

    command: str
    overrides: tuple[str, ...]
    config_name: str | None = None
    config_path: str | None = None
    config_dir: str | None = None
    directory: str = ""
    direction: str = "minimize"
    seed: int = 0
    name: str = ""

    def write(self, sweep_dir: Path) -> None:
        """Put it into the sweep's directory; an older one is replaced at once."""
        content = asdict(self) | {"overrides": list(self.overrides)}
        temporary = sweep_dir / f".{SWEEP_FILE}.tmp"
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        temporary.replace(sweep_dir / SWEEP_FILE)

    @classmethod
    def read(cls, sweep_dir: Path) -> Self:
        """What a sweep's directory holds.

        Args:
            sweep_dir: Made by ``mgie train -m`` or ``mgie eval -m``.

        Returns:
            The record.

        Raises:
            CheckpointError: It holds no such record.
        """
        path = sweep_dir / SWEEP_FILE
        if not path.is_file():
            got = f"a folder without {SWEEP_FILE}" if sweep_dir.is_dir() else "no folder"
            raise CheckpointError(
                f"{RESUME_KEY}: expected the directory of a sweep, as `mgie train -m` makes it below runs/multirun, "
                f"got {sweep_dir}, {got}"
            )
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(**content | {"overrides": tuple(content["overrides"])})
        except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
            raise CheckpointError(f"{path}: expected the record of a sweep, can not read it: {error}") from error

    def continued(self, command: str, typed: Sequence[str], sweep_dir: Path) -> Self:
        """The same sweep with what was typed beside ``sweep.resume``.

        Args:
            command: What was typed: ``train`` or ``eval``.
            typed: Overrides, ``sweep.resume`` among them.
            sweep_dir: Of this sweep; its trials stay there.

        Returns:
            The record to go on with.

        Raises:
            ConfigError: It is a sweep of another command, or something was typed that would make other trials.
        """
        if command != self.command:
            raise ConfigError(
                f"{RESUME_KEY}: expected a sweep of mgie {command}, got one of mgie {self.command}; continue it with "
                f"mgie {self.command} -m {RESUME_KEY}={sweep_dir}"
            )
        known = set(self.overrides)
        extra = [text for text in typed if text not in known and key_of(text) != RESUME_KEY]
        refused = [text for text in extra if not key_of(text).startswith(CHANGEABLE)]
        if refused:
            raise ConfigError("\n".join(self._refusal(text) for text in refused))
        changed = {key_of(text) for text in extra}
        kept = [text for text in self.overrides if not _is_replaced(key_of(text), changed)]
        return replace(self, overrides=(*kept, *extra))

    def _refusal(self, text: str) -> str:
        before = [own for own in self.overrides if key_of(own) == key_of(text)]
        recorded = f"this one has {' '.join(before)}" if before else "this one was started without it"
        return (
            f"{text}: expected nothing that changes the trials of a sweep beside {RESUME_KEY}= ({recorded}; "
            f"{', '.join(CHANGEABLE).replace('r., ', 'r.*, ')} may change); start a new sweep"
        )


def key_of(override: str) -> str:
    """Key of an override as it is typed.

    >>> key_of("+optimizer.lr=1e-4,3e-4"), key_of("~callbacks")
    ('optimizer.lr', 'callbacks')
    """
    return override.lstrip("+~").partition("=")[0]


def is_swept(override: str) -> bool:
    """Whether an override gives several values, so that trials differ in it."""
    parsed: Override = OverridesParser.create().parse_override(override)
    return bool(parsed.is_sweep_override())


def pin_directory(sweep_dir: Path, overrides: Sequence[str]) -> list[str]:
    """Overrides with the sweep's directory as a fixed path.

    A name made from the time would be another one in each process that composes a trial.
    """
    text = str(sweep_dir.absolute()).replace("'", "\\'")
    rest = [override for override in overrides if key_of(override) not in (DIRECTORY_KEY, RESUME_KEY)]
    return [*rest, f"{DIRECTORY_KEY}='{text}'"]


def resume_request(overrides: Sequence[str]) -> Path | None:
    """The directory that ``sweep.resume`` names; None where it is not typed, or null."""
    values = [text.partition("=")[2].strip("\"'") for text in overrides if key_of(text) == RESUME_KEY]
    return Path(values[-1]) if values and values[-1] not in ("", "null") else None


def _is_replaced(key: str, changed: set[str]) -> bool:
    """Whether an override gives way to another: settings of a launcher go with it."""
    return key in changed or ("hydra/launcher" in changed and key.startswith("hydra.launcher."))
