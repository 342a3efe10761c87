"""The two jobs of the framework: a training and an evaluation, from a composed config."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, SupportsFloat

from omegaconf import DictConfig, OmegaConf

from mgie_lit.checkpoints.integrity import add_digest
from mgie_lit.checkpoints.runs import WANDB_KEY, checkpoint_step, find_checkpoint, has_checkpoints, load_checkpoint
from mgie_lit.config.build import build_editor
from mgie_lit.config.devices import count_devices
from mgie_lit.config.evaluation import resumed_evaluation, run_evaluation
from mgie_lit.config.explain import machine_faults_explained
from mgie_lit.config.lock import locked
from mgie_lit.config.processes import Place, check_alone
from mgie_lit.config.resume import record_resume, requeued_run, resumed_training
from mgie_lit.config.runs import (
    CONFIG_FILE,
    check_free,
    complete_run_files,
    current_overrides,
    has_results,
    remove_run_files,
    resolved,
    write_run_files,
)
from mgie_lit.config.systems import check_sources, check_trains, start_from_editor
from mgie_lit.trials import TRIAL_FILE

LOG = logging.getLogger(__name__)
_CHECKPOINT_NOTE = "checkpoint"
_OVER = "%s: this training has ended at step %s; nothing is left to do. A larger trainer.max_steps goes on"


@dataclass(frozen=True)
class Training:
    """A training that is ready to run, in one process or as one of several."""

    config: DictConfig  # resolved; `paths.run_dir` is the run's
    checkpoint: Path | None = None  # to go on from; None = a new run

    @property
    def run_dir(self) -> Path:
        """Where the run is recorded."""
        return Path(self.config.paths.run_dir)

    @property
    def num_processes(self) -> int:
        """Processes that work on it on this machine."""
        return count_devices(self.config.trainer.accelerator, self.config.trainer.devices)

    def write(self, folder: Path) -> None:
        """Put it into a folder for other processes."""
        OmegaConf.save(OmegaConf.create(resolved(self.config)), folder / CONFIG_FILE)
        (folder / _CHECKPOINT_NOTE).write_text("" if self.checkpoint is None else str(self.checkpoint.absolute()))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` put into a folder."""
        config = OmegaConf.load(folder / CONFIG_FILE)
        assert isinstance(config, DictConfig)
        checkpoint = (folder / _CHECKPOINT_NOTE).read_text()
        return cls(config, Path(checkpoint) if checkpoint else None)

    def as_record(self) -> dict[str, str | None]:
        """All of it as texts, for processes on other machines."""
        checkpoint = None if self.checkpoint is None else str(self.checkpoint.absolute())
        return {"config": OmegaConf.to_yaml(OmegaConf.create(resolved(self.config))), "checkpoint": checkpoint}

    @classmethod
    def from_record(cls, record: Mapping[str, str | None]) -> Self:
        """What `as_record` gave."""
        config = OmegaConf.create(record["config"])
        assert isinstance(config, DictConfig)
        return cls(config, Path(record["checkpoint"]) if record["checkpoint"] else None)

    def run(self, record: Callable[[], None] | None = None) -> float | None:
        """Build everything and train, in this process.

        Args:
            record: Called when all parts have been built, before the first step.

        Returns:
            ``optimized_metric`` at the end; None where it was never logged, with a warning in a sweep.

        Raises:
            MGIEError: A part can not be built or the checkpoint does not fit.
            KeyboardInterrupt: By Ctrl-C, with a checkpoint once training has begun; by a second one without.
        """
        from mgie_lit.config.build_training import build_datamodule, build_module, build_trainer  # brings Lightning
        from mgie_lit.training.callbacks.random_state import seed_random_state

        _silence_known_warnings()
        step = checkpoint_step(self.checkpoint)
        editor = build_editor(self.config)
        if self.checkpoint is None:
            start_from_editor(editor, self.config.model)
        module = build_module(self.config, editor)
        module.make_optimizer(editor.named_parameters())  # a recipe that can not be followed is known now
        datamodule = build_datamodule(self.config, editor)
        wandb_id = None if self.checkpoint is None else load_checkpoint(self.checkpoint).get(WANDB_KEY)
        trainer = build_trainer(self.config, step, wandb_id=wandb_id)
        if record is not None:
            record()
        seed_random_state(self.config.seed, trainer.global_rank)
        with machine_faults_explained(self.config, datamodule), _interrupt_passed_on():
            trainer.fit(module, datamodule=datamodule, ckpt_path=self.checkpoint, weights_only=True)
        if trainer.global_step == step:
            LOG.info(_OVER, self.run_dir, step)
        return _optimized_value(trainer.callback_metrics, self.config)


@contextmanager
def _interrupt_passed_on() -> Iterator[None]:
    """Ctrl-C is ``KeyboardInterrupt``, whether a checkpoint was saved or Lightning made it an exit with status 1."""
    from mgie_lit.training.termination import INTERRUPTED

    try:
        yield
    except SystemExit as error:
        if error.code == INTERRUPTED or isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


Launch = Callable[[Training, int], float | None]


def train(config: DictConfig, launch: Launch | None = None, *, apart: bool = False) -> float | None:
    """Train as the config says, or go on with ``resume``.

    Args:
        config: Composed from ``train.yaml``; with ``resume`` that run's own, with what was typed on top, is used.
        launch: Runs a training in several processes of this machine; None = only one is possible.
        apart: Also a single process is started by ``launch``.

    Returns:
        ``optimized_metric`` at the end, for sweeps; None where it was never logged, with a warning in a sweep.

    Raises:
        MGIEError: Config, data or checkpoint can not be used; nothing was overwritten.
    """
    if config.resume is None and (before := requeued_run(Path(config.paths.root), current_overrides())):
        config.resume = str(before)
    if config.resume is None:
        check_trains(config.model)
        with locked(Path(config.paths.run_dir)):
            return _train_anew(Training(config), launch, apart)
    config = resumed_training(config, current_overrides())
    with locked(Path(config.paths.run_dir), option="resume"):
        return _go_on(config, launch, apart)


def _train_anew(training: Training, launch: Launch | None, apart: bool) -> float | None:
    from mgie_lit.config.interrupted import clear_leftovers  # brings Lightning

    check_free(training.run_dir)
    clear_leftovers(training.run_dir)

    def record() -> None:
        write_run_files(training.run_dir, training.config, current_overrides())
        LOG.info("run directory: %s", training.run_dir)

    try:
        return _run(training, record, launch, apart)
    except Exception:
        if not has_results(training.run_dir):  # the same directory can be used once the cause is gone
            remove_run_files(training.run_dir)
        raise


def _go_on(config: DictConfig, launch: Launch | None, apart: bool) -> float | None:
    from mgie_lit.config.interrupted import clear_leftovers, is_over, last_values  # brings Lightning

    run_dir = Path(config.paths.run_dir)
    training = Training(config, find_checkpoint(run_dir) if has_checkpoints(run_dir) else None)
    clear_leftovers(run_dir)
    if training.checkpoint is not None:
        add_digest(training.checkpoint)
    if training.checkpoint is not None and is_over(config, load_checkpoint(training.checkpoint)):
        LOG.info(_OVER, run_dir, checkpoint_step(training.checkpoint))
        return _optimized_value(last_values(run_dir), config)

    def record() -> None:
        step = checkpoint_step(training.checkpoint)
        complete_run_files(run_dir, config)
        record_resume(run_dir, current_overrides(), step)
        LOG.info("run directory: %s, going on after step %s", run_dir, step)

    return _run(training, record, launch, apart)


def _run(training: Training, record: Callable[[], None], launch: Launch | None, apart: bool) -> float | None:
    if Place.find() is None:
        check_alone(training.config)
    if launch is None or (training.num_processes == 1 and not apart):
        return training.run(record)
    record()
    return launch(training, training.num_processes)


def evaluate_run(config: DictConfig) -> Path:
    """Score a system: that of a checkpoint, a folder of predictions, or one without weights.

    Args:
        config: Composed from ``eval.yaml``; with ``resume`` that evaluation's own, with what was typed on top, is used.

    Returns:
        The evaluation's own directory.

    Raises:
        MGIEError: Config, data, checkpoint or predictions can not be used; nothing was overwritten.
    """
    config = resumed_evaluation(config)
    check_sources(config)
    return run_evaluation(config)


def _optimized_value(values: Mapping[str, SupportsFloat], config: DictConfig) -> float | None:
    """None where it was never logged, which only a trial of a sweep is warned of: nobody else asked for it."""
    name = config.optimized_metric
    value = values.get(name)
    if value is None:
        if (Path(config.paths.run_dir) / TRIAL_FILE).is_file():
            LOG.warning("optimized_metric: %s was never logged; logged were %s", name, ", ".join(sorted(values)))
        return None
    return float(value)


def _silence_known_warnings() -> None:
    """Hints of the libraries that do not apply here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    known = ["does not have many workers", r"module\(s\) in eval mode", "LeafSpec", "exists and is not empty"]
    known.append("Set a lower value for log_every_n_steps")  # it counts steps of the training, not of an epoch
    known.append(r"It is recommended to use `self\.log\('val/")  # all processes log the same mean
    for text in known:
        warnings.filterwarnings("ignore", message=f".*{text}")
