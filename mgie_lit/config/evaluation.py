"""An evaluation from a composed config: in one process or several, from the start or from where it was killed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from mgie_lit.config.build import build_dataset, build_metrics
from mgie_lit.config.resume import resumed_config
from mgie_lit.config.runs import (
    check_free,
    current_overrides,
    read_run_config,
    remove_run_files,
    resolved,
    write_run_files,
)
from mgie_lit.config.systems import build_system
from mgie_lit.errors import ConfigError, MGIEError
from mgie_lit.evaluation.dashboard import show_evaluation
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.journal import forget, read_journal
from mgie_lit.evaluation.layouts import MAGICBRUSH_FOLDER, check_choices, write_magicbrush
from mgie_lit.evaluation.plan import METRICS_FILE, EvaluationPlan, plan_evaluation

LOG = logging.getLogger(__name__)
_SHARED = (
    "data: the splits %s hold the same examples, so these scores say nothing about pictures that were not trained on; "
    "divide the data (docs/datasets.md), or read the scores as training scores"
)
WORKER = "mgie_lit.cli.eval_worker"  # module that works on one share


def resumed_evaluation(config: DictConfig) -> DictConfig:
    """The config itself, or with ``resume`` that of the evaluation that goes on.

    Args:
        config: Composed from ``eval.yaml``.

    Returns:
        With ``paths.run_dir`` and ``resume`` set to the interrupted evaluation's directory where one goes on.

    Raises:
        CheckpointError: ``resume`` is no directory of an evaluation.
        ConfigError: That evaluation is complete, or something was typed that it can not change.
    """
    if config.resume is None:
        return config
    out_dir = Path(config.resume)
    if (out_dir / METRICS_FILE).exists():
        raise ConfigError(
            f"resume: expected an evaluation that was interrupted, got {out_dir}, which is complete; "
            "leave resume out to make another"
        )
    stored = resumed_config(config, current_overrides())
    with open_dict(stored):
        stored.resume = str(out_dir)
    return stored


def run_evaluation(config: DictConfig) -> Path:
    """Evaluate as a config says, with its number of processes.

    Args:
        config: From :func:`resumed_evaluation`.

    Returns:
        The evaluation's directory.

    Raises:
        MGIEError: Something can not be used; where nothing was scored yet, nothing is left behind.
    """
    _refuse_torchrun()
    check_choices(config.predictions_layout, config.turns)
    out_dir = Path(config.paths.run_dir)
    is_new = config.resume is None
    if is_new:
        check_free(out_dir)
    plan = _make_plan(config)
    if plan.shared_splits and config.split != "train":  # of that one the reader itself says so
        LOG.warning(_SHARED, ", ".join(plan.shared_splits))
    plan.claim(resume=not is_new)
    try:
        if is_new:
            write_run_files(out_dir, config, current_overrides())
        with _workers(config, out_dir):
            plan.run_share(0, config.num_processes, progress=True)
        plan.finish()
    except Exception:
        if is_new and not read_journal(out_dir):  # the same directory can be used once the cause is gone
            forget(out_dir)
            remove_run_files(out_dir)
        raise
    if config.predictions_layout == "magicbrush" and config.predictions is None and config.save_images:
        images = [(name, out_dir / "images" / f"{name}.png") for name in plan.sample_ids]
        write_magicbrush(images, out_dir / MAGICBRUSH_FOLDER, turns=config.turns)
    _show(out_dir, config)
    return out_dir


def run_share(out_dir: Path, rank: int, num_ranks: int) -> None:
    """Work on one share of an evaluation that another process has begun.

    Args:
        out_dir: The evaluation's directory, which holds its config.
        rank: Of this process, from 1.
        num_ranks: Number of processes.

    Raises:
        MGIEError: Something can not be used, or is not what the first process found.
    """
    config = read_run_config(out_dir)
    config.device = _device_of(config.device, rank)
    plan = _make_plan(config)
    plan.claim(resume=True)
    plan.run_share(rank, num_ranks)


def _make_plan(config: DictConfig) -> EvaluationPlan:
    dataset = build_dataset(config, config.split)
    metrics = build_metrics(config)
    system = build_system(config)
    return plan_evaluation(
        system.edit,
        dataset,
        metrics,
        out_dir=Path(config.paths.run_dir),
        seeds=_seeds(config),
        batch_size=config.batch_size,
        turns=config.turns,
        protocol={"data": resolved(config)["data"], "split": config.split, "sampling": system.sampling},
        source=system.source,
        save_images=config.save_images,
        bootstrap=Bootstrap(seed=config.seed),
    )


def _show(out_dir: Path, config: DictConfig) -> None:
    """Hand the finished evaluation to wandb, if ``logger=wandb`` was chosen; its table is its own, not a training's."""
    node = (config.get("logger") or {}).get("wandb")
    if node is None:
        return

    def open_run() -> Any:  # noqa: ANN401 - wandb's run
        logger = instantiate(node, job_type=config.job, _convert_="all")
        logger.log_hyperparams(resolved(config))
        return logger.open()

    show_evaluation(out_dir, open_run)


def _device_of(device: str | None, rank: int) -> str | None:
    """Where several GPUs are there for the taking, each process has one of its own."""
    count = torch.cuda.device_count()
    return f"cuda:{rank % count}" if count > 1 and device in {None, "cuda"} else device


def _seeds(config: DictConfig) -> range:
    return range(config.seed, config.seed + config.num_seeds)


@contextmanager
def _workers(config: DictConfig, out_dir: Path) -> Iterator[None]:
    """The other processes, while this one works; they are waited for, and stopped if this one fails."""
    count = int(config.num_processes)
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)), **os.environ}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", WORKER, str(out_dir), str(rank), str(count)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(1, count)
    ]
    try:
        yield
        for rank, worker in enumerate(started, 1):
            _, errors = worker.communicate()
            if worker.returncode:
                raise MGIEError(
                    f"num_processes: process {rank} of {count} failed with status {worker.returncode}; go on with "
                    f"resume={out_dir} once the cause is gone:\n{errors.strip()[-2000:]}"
                )
    finally:
        for worker in started:
            if worker.poll() is None:
                worker.terminate()
                worker.wait()


def _refuse_torchrun() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            f"mgie eval: expected to be started once, got {os.environ['WORLD_SIZE']} processes of torchrun; "
            "start it without torchrun and give num_processes=<n>"
        )
