"""The thin commands: what they hand on, what they print, what they refuse."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig

from mgie_lit.cli.launch import launch
from mgie_lit.cli.main import main
from mgie_lit.cli.prepare import STEPS

CONF = Path(__file__).resolve().parents[2] / "conf"


def put_module(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


class TestTrainAndEval:
    @pytest.fixture(autouse=True)
    def _small_configs(self, conf_tree: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (conf_tree / "eval.yaml").write_text((conf_tree / "train.yaml").read_text().replace("job: train", "job: eval"))
        monkeypatch.setattr("mgie_lit.cli.hydra_app.config_dir", lambda: conf_tree)

    def test_train(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        given: list[DictConfig] = []
        launchers: list[object] = []

        def train(config: DictConfig, launch: object) -> None:
            given.append(config)
            launchers.append(launch)

        put_module(monkeypatch, "mgie_lit.config.run", train=train)
        main(["train", "seed=4"])
        assert launchers == [launch]
        assert given[0].seed == 4
        assert capsys.readouterr().out == ""

    def test_eval_prints_its_directory_last(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workplace: Path
    ) -> None:
        def evaluate_run(config: DictConfig) -> Path:
            print("a table")
            return Path(config.paths.run_dir)

        put_module(monkeypatch, "mgie_lit.config.run", evaluate_run=evaluate_run)
        main(["eval"])
        last = capsys.readouterr().out.splitlines()[-1]
        assert Path(last).parent == workplace / "runs" / "eval"

    def test_a_trial_of_a_sweep_leaves_the_table_to_it(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workplace: Path
    ) -> None:
        for name in ("metrics.json", "trial.json"):
            (workplace / name).write_text("{}")
        put_module(monkeypatch, "mgie_lit.config.run", evaluate_run=lambda config: workplace)
        main(["eval"])
        assert capsys.readouterr().out == f"{workplace}\n"

    @pytest.mark.faults
    @pytest.mark.parametrize("command", ["train", "eval"])
    def test_faulty_override(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main([command, "sed=4"])
        assert capsys.readouterr() == (
            "",
            f"mgie {command}: error: sed=4: no such key; did you mean seed? (a new key is added with +sed=4)\n",
        )


class TestPrepare:
    def test_preview(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        calls: list[tuple[int, Path, int]] = []

        def write_preview(dataset: list[object], path: Path, count: int) -> None:
            calls.append((len(dataset), path, count))
            path.write_text("sheet")

        put_module(monkeypatch, "mgie_lit.prepare.preview", write_preview=write_preview)
        main(["prepare", "preview", "preview.count=3", "preview.split=test"])
        printed = Path(capsys.readouterr().out.splitlines()[-1])
        assert calls == [(3, printed, 3)]
        assert (workplace / printed).read_text() == "sheet"
        assert printed.parts[:2] == ("runs", "prepare")

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], f"mgie prepare: error: expected {', '.join(STEPS)}, got nothing; see --help\n"),
            (["shreds"], f"mgie prepare: error: expected {', '.join(STEPS)}, got shreds; see --help\n"),
            (["preview", "preview.cuont=1"], "preview.cuont=1: no such key; did you mean preview.count?"),
            (["preview", "preview.count=0"], "preview.count: expected a whole number >= 1, got 0"),
            (["preview", "preview.path=there.png"], "preview.path: expected a new file, but there.png exists"),
            (["preview", "preview.split=tets"], "split: expected one of train, val, test, got tets"),
        ],
    )
    def test_mistakes(
        self, workplace: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (workplace / "there.png").touch()
        with pytest.raises(SystemExit, match="2"):
            main(["prepare", *arguments])
        assert message in capsys.readouterr().err
        assert [path.name for path in workplace.iterdir()] == ["there.png"]


@pytest.mark.parametrize("command", ["train", "eval", "prepare"])
def test_examples_name_choices_that_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    examples = capsys.readouterr().out.partition("examples:")[2]
    choices = re.findall(r"\b(data|metrics|model|size|preset|experiment|sampler)=(\w+)", examples)
    assert choices
    for group, name in choices:
        assert (CONF / group / f"{name}.yaml").is_file(), f"{group}={name}"


class TestReport:
    @pytest.fixture(autouse=True)
    def _fake(self, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write_report(folders: list[Path], output: Path, *, wandb_project: str | None) -> None:
            output.write_text(" ".join([*map(str, folders), *([f"to {wandb_project}"] if wandb_project else [])]))

        put_module(monkeypatch, "mgie_lit.report.build", write_report=write_report)
        for name in ("a", "b"):
            (workplace / name).mkdir()

    def test_page_is_written_and_printed(self, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["report", "a", "b"])
        assert capsys.readouterr().out == "report.html\n"
        assert (workplace / "report.html").read_text() == "a b"
        main(["report", "a", "-o", "deep/er.html"])
        assert (workplace / "deep" / "er.html").read_text() == "a"
        main(["report", "a", "-o", "shared.html", "--wandb", "mgie"])
        assert (workplace / "shared.html").read_text() == "a to mgie"

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "the following arguments are required: DIR"),
            (["a", "x", "y"], "DIR: expected run or evaluation directories, found none at x, y"),
            (["a", "-o", "x.pdf"], "-o: expected a name that ends in .html, got x.pdf"),
            (["a", "-o", "old.html"], "-o: expected a new file, but old.html exists; choose another with -o"),
        ],
    )
    def test_mistakes(
        self, workplace: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (workplace / "old.html").write_text("precious")
        with pytest.raises(SystemExit, match="2"):
            main(["report", *arguments])
        assert message in capsys.readouterr().err
        assert (workplace / "old.html").read_text() == "precious"
