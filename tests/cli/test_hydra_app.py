from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mgie_lit.cli.hydra_app import run_hydra
from mgie_lit.config.runs import current_overrides
from mgie_lit.errors import ConfigError, MGIEError


class Job:
    """Remembers what it was given; fails where told to."""

    def __init__(self) -> None:
        self.configs: list[DictConfig] = []
        self.overrides: list[list[str]] = []
        self.failures: dict[int, Exception] = {}  # call number -> what it raises
        self.leaves_a_file = True

    def __call__(self, config: DictConfig) -> float:
        self.configs.append(config)
        self.overrides.append(current_overrides())
        logging.getLogger("test").info("the job logs")
        if error := self.failures.get(len(self.configs) - 1):
            raise error
        if self.leaves_a_file:
            Path(config.paths.run_dir, "result").touch()
        return float(len(self.configs))

    @property
    def run_dirs(self) -> list[Path]:
        return [Path(config.paths.run_dir) for config in self.configs]


@pytest.fixture
def job() -> Job:
    return Job()


@pytest.fixture(autouse=True)
def _keep_logging() -> Iterator[None]:
    """Hydra configures the process's logging; put it back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def app(conf_tree: Path, workplace: Path, job: Job) -> App:
    return App(conf_tree, job)


class App:
    def __init__(self, tree: Path, job: Job) -> None:
        self.tree, self.job = tree, job

    def __call__(self, *arguments: str) -> None:
        run_hydra("train", ["--config-path", str(self.tree), *arguments], self.job)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestSingleRun:
    def test_job_gets_the_config_and_a_directory(self, app: App, job: Job, workplace: Path) -> None:
        app("model=lgie", "+note=1", "hydra.verbose=false")
        (config,) = job.configs
        assert (config.model.guide, config.note, "hydra" in config) == ("language_model", 1, False)
        assert job.overrides == [["model=lgie", "+note=1"]]
        run_dir = Path(config.paths.run_dir)
        assert run_dir.is_absolute()
        assert run_dir.parent == workplace / "runs" / "train"

    def test_nothing_else_is_written(
        self, app: App, job: Job, workplace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        app()
        assert files_below(workplace) == [str(job.run_dirs[0].relative_to(workplace) / "result")]
        out, err = capsys.readouterr()
        assert out == ""
        assert "the job logs" in err

    def test_each_run_has_its_own_directory(self, app: App, job: Job) -> None:
        for _ in range(3):
            app()
        assert len(set(job.run_dirs)) == 3

    def test_directory_given_by_the_user(self, app: App, job: Job, workplace: Path) -> None:
        app("paths.run_dir=mine/here")
        assert job.run_dirs == [workplace / "mine" / "here"]

    def test_flags_between_overrides(self, app: App, job: Job) -> None:
        app("seed=1", "--run", "optimizer.lr=1")
        assert (job.configs[0].seed, job.configs[0].optimizer.lr) == (1, 1)

    def test_further_config_dir(self, app: App, job: Job, tmp_path: Path) -> None:
        (tmp_path / "more" / "model").mkdir(parents=True)
        (tmp_path / "more" / "model" / "mine.yaml").write_text("guide: my_own")
        app("--config-dir", str(tmp_path / "more"), "model=mine")
        assert job.configs[0].model.guide == "my_own"

    @pytest.mark.parametrize("error", [ConfigError("mine"), KeyError("internal")])
    def test_errors_arrive_as_themselves(
        self, app: App, job: Job, error: Exception, workplace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job.failures[0] = error
        with pytest.raises(type(error)) as caught:
            app()
        assert caught.value is error
        assert "Error executing job" not in capsys.readouterr().err
        assert list((workplace / "runs" / "train").iterdir()) == []  # no empty directory stays

    def test_exit_of_the_job_passes(self, app: App, job: Job) -> None:
        job.failures[0] = SystemExit(143)  # type: ignore[assignment]
        with pytest.raises(SystemExit, match="143"):
            app()

    def test_directory_with_files_stays_when_the_job_fails(self, app: App, job: Job, workplace: Path) -> None:
        (workplace / "mine").mkdir()
        (workplace / "mine" / "log").touch()
        job.failures[0] = ConfigError("mine")
        with pytest.raises(ConfigError, match="mine"):
            app("paths.run_dir=mine")
        assert (workplace / "mine" / "log").exists()

    def test_environment_is_as_before(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        app()
        assert "HYDRA_FULL_ERROR" not in os.environ

    def test_printing_the_config_runs_nothing(
        self, app: App, job: Job, workplace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        app("--cfg", "job", "--resolve", "seed=5")
        out = capsys.readouterr().out
        assert "seed: 5" in out
        assert "run_dir: runs/train/" in out
        assert job.configs == []
        assert list(workplace.iterdir()) == []
        assert current_overrides() == []  # nothing of it stays in the process


@pytest.mark.faults
class TestFaults:
    def test_all_faults_at_once_before_anything_runs(self, app: App, job: Job, workplace: Path) -> None:
        with pytest.raises(ConfigError, match=r"(?s)^sed=1: no such key; did you mean seed.*\nmodel=x: expected one"):
            app("sed=1", "model=x")
        with pytest.raises(ConfigError, match=r"^optimizer\.lr: .*\ntrainer\.max_steps: .*\noptimizer\.leer: "):
            app("optimizer.lr=0", "trainer.max_steps=0", "+optimizer.leer=1")
        assert job.configs == []
        assert list(workplace.iterdir()) == []

    def test_values_that_are_needed(self, app: App) -> None:
        with pytest.raises(ConfigError, match=r"^model\.needed: a value is needed; give it as model\.needed=<value>$"):
            app("model=unfinished")

    def test_keys_that_the_job_does_not_use(self, conf_tree: Path, workplace: Path, job: Job) -> None:
        run_hydra("train", ["--config-path", str(conf_tree), "model=unfinished"], job, unused={"model"})
        assert len(job.configs) == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--config-dir", "nowhere"], "--config-dir: expected a folder with config files, got nowhere"),
            (["--config-path", "nowhere"], "--config-path: expected a folder with config files, got .*nowhere"),
            (["--config-name", "nothing"], "Cannot find primary config 'nothing'"),
            (["--cfg", "job", "-m"], "expected one of Hydra's actions, got --multirun and --cfg"),
            (["--resolve"], "--resolve: only with --cfg; write --cfg job --resolve"),
            (["--experimental-rerun", "x"], "--experimental-rerun: not supported"),
            (["paths.run_dir=file"], r"paths\.run_dir: expected a directory that can be made, got file"),
        ],
    )
    def test_arguments(self, app: App, workplace: Path, arguments: list[str], message: str) -> None:
        (workplace / "file").touch()
        with pytest.raises(ConfigError, match=message):
            app(*arguments)

    def test_unknown_flag_shows_the_usage(self, app: App, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            app("--multi-run")
        err = capsys.readouterr().err
        assert err.startswith("usage: mgie train")
        assert "unrecognized arguments: --multi-run" in err


class TestSweep:
    def test_each_job_has_its_own_directory(self, app: App, job: Job, workplace: Path) -> None:
        app("-m", "optimizer.lr=1e-4,3e-4", "seed=1", "experiment=smoke")
        assert [config.optimizer.lr for config in job.configs] == [1e-4, 3e-4]
        assert all(config.seed == 1 and config.trainer.max_steps == 2 for config in job.configs)
        sweep_dir = job.run_dirs[0].parent
        assert job.run_dirs == [sweep_dir / "0", sweep_dir / "1"]
        assert sweep_dir.parent == workplace / "runs" / "multirun"
        assert files_below(sweep_dir) == [
            *("0/result", "0/trial.json", "1/result", "1/trial.json"),
            *("multirun.yaml", "sweep.yaml"),
        ]
        assert job.overrides[1] == ["optimizer.lr=0.0003", "seed=1", "experiment=smoke"]

    def test_stdout_has_the_table_and_the_directory_alone(
        self, app: App, job: Job, capsys: pytest.CaptureFixture[str]
    ) -> None:
        app("-m", "seed=1,2")
        out, err = capsys.readouterr()
        table = out.splitlines()
        assert [line.split() for line in table[1:3]] == [
            ["0", "seed=1", "done", "1", "*"],
            ["1", "seed=2", "done", "2"],
        ]
        assert table[-2].startswith("Best is trial 0 (seed=1)")
        assert table[-1] == str(job.run_dirs[0].parent)
        assert "Launching 2 jobs locally" in err

    def test_directory_given_by_the_user(self, app: App, job: Job, workplace: Path) -> None:
        app("-m", "seed=range(2)", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=s${hydra.job.num}")
        assert job.run_dirs == [workplace / "sweep" / "s0", workplace / "sweep" / "s1"]

    def test_mode_by_override_and_groups(self, app: App, job: Job) -> None:
        app("hydra.mode=MULTIRUN", "model=lgie,mgie")
        assert [config.model.guide for config in job.configs] == ["language_model", "mllm"]

    @pytest.mark.faults
    def test_one_failed_job_does_not_stop_the_others(
        self, app: App, job: Job, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job.failures[0] = ConfigError("no good")
        with pytest.raises(MGIEError, match=r"^1 of 3 trials of the sweep failed:\nno good$"):
            app("-m", "seed=1,2,3")
        assert len(job.configs) == 3
        assert "trial 0 (seed=1) failed: no good" in capsys.readouterr().err

    @pytest.mark.faults
    def test_internal_error_of_a_job_ends_with_its_own_status(
        self, app: App, job: Job, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job.failures = {0: ConfigError("no good"), 1: KeyError("internal")}
        with pytest.raises(SystemExit, match="1"):
            app("-m", "seed=1,2")
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert "trial 1 (seed=2) failed: KeyError('internal')" in err
        assert "mgie train: error: 2 of 2 trials of the sweep failed:" in err

    @pytest.mark.faults
    def test_each_job_is_checked(self, app: App, job: Job) -> None:
        with pytest.raises(MGIEError, match=r"1 of 2 trials .*\noptimizer\.lr: expected a number > 0, got -1"):
            app("-m", "optimizer.lr=1,-1")
        assert len(job.configs) == 1

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["sed=1,2", "modell=mgie"], r"(?s)sed=1: no such key.*modell=mgie: no such key; did you mean model\?"),
            (["model=mgie,lgei,copi"], r"(?s)model=lgei: expected one of .*model=copi: expected one of"),
            (["optimizer.lr=interval(0,1)", "sed=1"], "^sed=1: no such key"),
            (
                ["seed=1,2", "paths.run_dir=one"],
                r"paths\.run_dir: every trial of a sweep has its own .*hydra\.sweep\.dir",
            ),
        ],
    )
    def test_faults_before_anything_runs(
        self, app: App, job: Job, workplace: Path, arguments: list[str], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            app("-m", *arguments)
        assert job.configs == []
        assert list(workplace.iterdir()) == []
