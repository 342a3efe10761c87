"""wandb: one run through all resumes, every row kept, and no outage that stops a training."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from mgie_lit.checkpoints.runs import WANDB_KEY, load_checkpoint
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.evaluation.grid import GridRow, comparison_grid
from mgie_lit.testing.wandb_records import history, records, run_config
from mgie_lit.training.callbacks.checkpoint import StepCheckpoint
from mgie_lit.training.module import EditModule
from mgie_lit.training.wandb_logger import WandbLogger, derived_id, segments

QUIET = {"silent": True, "console": "off", "x_disable_machine_info": True}
COLORS = ("red", "green", "blue")


def logger_of(run_dir: Path, **kwargs: Any) -> WandbLogger:  # noqa: ANN401
    run_dir.mkdir(exist_ok=True)
    settings = QUIET | kwargs.pop("settings", {})
    return WandbLogger("test", run_dir, settings=settings, **kwargs)


def edits() -> list[GridRow]:
    source, edited, target = (Image.new("RGB", (20, 10), color) for color in COLORS)
    return [GridRow(source, edited, target, "make it blue", "it is blue"), GridRow(source, None, target, "again")]


class FakeRun:
    """Takes what a run of wandb takes; breaks at a row if told to."""

    def __init__(self, breaks_at: int = 1000, step: int = 0) -> None:
        self.rows: list[dict[str, Any]] = []
        self.steps: list[int] = []
        self.finished: list[int] = []
        self.breaks_at = breaks_at
        self.step = step

    def log(self, row: dict[str, Any], *, step: int, commit: bool) -> None:
        assert commit, "a row with a step of its own waits for the next one otherwise"
        if len(self.rows) == self.breaks_at:
            raise BrokenPipeError("the service is gone\nfor good")
        self.rows.append(row)
        self.steps.append(step)

    def save(self, path: str, **kwargs: Any) -> None:  # noqa: ANN401
        raise FileNotFoundError("no wandb folder any more")

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Runs, or errors, that opening one gives, in turn; modes that were asked for are put in their place."""
    answers: list[Any] = []

    def open_run(self: WandbLogger, mode: str | None = None) -> Any:  # noqa: ANN401
        index = next(index for index, answer in enumerate(answers) if not isinstance(answer, str))
        answer, answers[index] = answers[index], str(mode)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(WandbLogger, "open", open_run)
    return answers


def test_id_comes_from_the_directory(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "run 1", tmp_path / "b" / "run 1"
    assert derived_id(one) == derived_id(tmp_path / "a" / "x" / ".." / "run 1")
    assert derived_id(one) != derived_id(two)
    assert derived_id(one).startswith("run-1-")
    assert WandbLogger("p", one).version == derived_id(one)
    assert WandbLogger("p", one, run_id="kept").version == "kept"


def test_resumed_run_is_one_run_and_keeps_every_row(tmp_path: Path) -> None:
    """Read back from wandb's own files, as they would be synchronised."""
    import wandb

    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "versions.json").write_text(json.dumps({"git_commit": "abc"}))
    (run_dir / "metrics.csv").write_text("step\n")
    for first in (1, 3):  # the first process had gone on to step 4 after its checkpoint at step 2
        logger = logger_of(run_dir)
        logger.log_hyperparams({"optimizer": {"lr": 0.5}})
        for step in (first, first + 1):
            logger.log_metrics({"train/loss": step / 8, "epoch": 0}, step=step)
        logger.log_edits(edits(), comparison_grid(edits()), step=first + 1)
        logger.log_metrics({"train/loss": 9.0}, step=first + 2)
        logger.finalize("success")
        wandb.teardown()

    files = segments(run_dir)
    assert [file.name for file in files] == [f"run-{derived_id(run_dir)}.wandb"] * 2
    rows = [history(file) for file in files]
    assert [[row["trainer/global_step"] for row in part] for part in rows] == [[1, 2, 2, 3], [3, 4, 4, 5]]
    assert [{row["trainer/segment"] for row in part} for part in rows] == [{0}, {1}]
    assert rows[1][0]["train/loss"] == 3 / 8
    steps = [row["_step"] for part in rows for row in part]
    assert steps == sorted(set(steps)), "wandb drops rows whose step does not rise"
    config = run_config(files[1])
    assert config["optimizer"] == {"lr": 0.5}
    assert config["versions"] == {"git_commit": "abc"}

    assert next(row for row in rows[0] if "val/samples.path" in row)["trainer/global_step"] == 2
    stored = next(files[0].parent.glob("files/media/table/val/samples_*.table.json"))
    content = json.loads(stored.read_text())
    assert content["columns"] == ["source", "edited", "target", "instruction", "expressive_instruction"]
    assert content["data"][0][3:] == ["make it blue", "it is blue"]
    assert content["data"][1][1] is None
    assert list(files[0].parent.glob("files/media/images/val/edits_*.png")), "the grid"
    assert [path.name for path in files[0].parent.glob("files/metrics.csv")] == ["metrics.csv"]
    exits = [record.exit.exit_code for record in records(files[0]) if record.HasField("exit")]
    assert exits == [0]
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_system_metrics_are_on() -> None:
    import wandb

    assert not wandb.Settings(**QUIET).x_disable_stats


def test_other_processes_log_nothing(opened: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = logger_of(tmp_path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.finalize("success")
    assert opened == [], "one run a training"


def test_row_numbers_begin_behind_wandb_s_own(opened: list[Any], tmp_path: Path) -> None:
    run = FakeRun(step=70)  # what a server knows of a run that was streamed before
    opened.append(run)
    logger = logger_of(tmp_path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_metrics({"a": 1.0}, step=2)
    assert run.steps == [70, 71]


@pytest.mark.faults
class TestOutages:
    def test_no_server_keeps_the_run_offline(
        self, opened: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delenv("WANDB_MODE")
        run = FakeRun()
        opened += [TimeoutError("no answer"), run]
        logger = logger_of(tmp_path, offline=False)
        with caplog.at_level(logging.WARNING):
            logger.log_metrics({"a": 1.0}, step=1)
        assert opened == ["online", "offline"]
        assert len(run.rows) == 1
        assert (
            "the training as it goes (it is kept for `wandb sync`) could not be handed over (no answer)" in caplog.text
        )

    def test_nothing_at_all_is_one_warning(
        self, opened: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened.append(OSError(30, "Read-only file system"))
        logger = logger_of(tmp_path)
        with caplog.at_level(logging.WARNING):
            for step in range(3):
                logger.log_metrics({"a": 1.0}, step=step)
            logger.log_edits(edits(), comparison_grid(edits()), step=3)
            logger.finalize("success")
        assert len(caplog.records) == 1
        assert "Read-only file system" in caplog.text

    def test_break_off_is_one_warning(
        self, opened: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = FakeRun(breaks_at=1)
        opened.append(run)
        logger = logger_of(tmp_path)
        (tmp_path / "metrics.csv").touch()
        with caplog.at_level(logging.WARNING):
            for step in range(4):
                logger.log_metrics({"a": 1.0}, step=step)
            assert len(caplog.records) == 1
            assert "step 1, and what comes after it, could not be handed over (the service is gone);" in caplog.text
            logger.finalize("failed")
        assert "metrics.csv could not be handed over (no wandb folder any more)" in caplog.text
        assert run.finished == [1], "it is finished all the same"

    def test_missing_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(sys.modules, "wandb", None)
        logger = logger_of(tmp_path)
        with caplog.at_level(logging.WARNING):
            logger.log_metrics({"a": 1.0}, step=1)
            logger.log_edits(edits(), comparison_grid(edits()), step=1)
            logger.finalize("success")
        assert len(caplog.records) == 1
        assert "the training could not be handed over (import of wandb halted" in caplog.text

    def test_exit_status_of_a_run_that_was_ended(self, opened: list[Any], tmp_path: Path) -> None:
        run = FakeRun()
        opened.append(run)
        logger = logger_of(tmp_path)
        logger.log_metrics({"a": 1.0}, step=1)
        try:
            raise SystemExit(143)
        except SystemExit:
            logger.finalize("failed")
        assert run.finished == [143]

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["refuses", "hangs"])
    def test_server(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:  # noqa: ANN401
        """A real try to stream, against a server that is none."""
        import wandb

        with _hanging_server() as port:
            monkeypatch.setenv("WANDB_MODE", "online")
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port if kind == 'hangs' else 9}")
            monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
            run_dir = tmp_path / "run"
            logger = logger_of(run_dir, settings={"init_timeout": 3, "finish_timeout": 3})
            with caplog.at_level(logging.WARNING):
                logger.log_metrics({"a": 1.0}, step=7)
            logger.finalize("success")
            wandb.teardown()
        assert "the training as it goes" in caplog.text
        rows = [row for file in segments(run_dir) for row in history(file)]
        assert [row["trainer/global_step"] for row in rows] == [7]


class _hanging_server:  # noqa: N801
    """Takes connections and says nothing."""

    def __enter__(self) -> int:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()
        return int(self.socket.getsockname()[1])

    def _take(self) -> None:
        while True:
            try:
                self.taken.append(self.socket.accept()[0])
            except OSError:
                return

    def __exit__(self, *_: object) -> None:
        for one in (self.socket, *self.taken):
            one.close()


@pytest.fixture
def no_wandb(opened: list[Any]) -> FakeRun:
    run = FakeRun()
    opened.append(run)
    return run


def test_checkpoints_know_the_run(
    no_wandb: FakeRun,
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
    tmp_path: Path,
) -> None:
    module = make_module()
    checkpoint = StepCheckpoint(tmp_path, "last", every_n_train_steps=2, save_top_k=-1)
    trainer = make_trainer(
        logger=logger_of(tmp_path), callbacks=[checkpoint], enable_checkpointing=True, limit_val_batches=0
    )
    trainer.fit(module, datamodule=make_data(module))
    assert load_checkpoint(tmp_path / "last.ckpt")[WANDB_KEY] == derived_id(tmp_path)
    assert [row["trainer/global_step"] for row in no_wandb.rows] == [0, 1]
    assert no_wandb.finished == [0]
