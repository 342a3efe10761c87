from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mgie_lit.cli.main import main
from mgie_lit.testing.datasets import write_imagefolder

Mgie = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ["experiment=smoke", "size.prompt.max_length=48"]


@pytest.fixture
def _no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step itself is tested elsewhere; here it would take most of the time."""
    from mgie_lit.doctor import diagnosis
    from mgie_lit.doctor.dry_run import DryRun

    monkeypatch.setattr(diagnosis, "dry_run", lambda *args, **kwargs: DryRun({"UNet": 10}, 20, 30, 40))


@pytest.mark.usefixtures("workplace", "_no_step")
class TestExitStatus:
    def test_0_when_the_training_could_start(self, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["doctor", *SMALL, "--json", "needs.json"])
        out, err = capsys.readouterr()
        assert out.endswith("The training can start.\n")
        assert err == ""
        needs = json.loads((workplace / "needs.json").read_text())
        assert needs["problems"] == []
        assert needs["choices"]["experiment"] == "smoke"
        assert needs["memory"]["total"] > needs["memory"]["weights"] > 0
        assert sum(part["total"] for part in needs["parts"]) == 1_553_313
        assert [path.name for path in workplace.iterdir()] == ["needs.json"], "nothing else is written"

    def test_1_when_something_is_missing(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="1"):
            main(["doctor", *SMALL, "size.start.diffusion=nowhere"])
        out = " ".join(capsys.readouterr().out.split())
        assert "size.start.diffusion = nowhere: MISSING" in out
        assert "- size.start.diffusion=nowhere: expected a pipeline folder with weights in unet/" in out

    def test_1_for_the_papers_size_on_this_machine(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="1"):
            main(["doctor", "experiment=mgie_7b_ipr2pr", "data.batch_size=2", "paths.root=."])
        out = capsys.readouterr().out
        assert "8,021,029,035" in out
        assert "1,153,725,380" in out
        assert "2 a batch x 8 batches x 8 processes = 128" in " ".join(out.split())
        assert "get it: docs/models.md#llava" in out
        assert "data.root: nothing is named" in out

    @pytest.mark.parametrize(
        ("has_expressive", "num_examples", "message"),
        [
            (
                False,
                8,
                "data.expressive: expected an expressive instruction for each of the 8 train examples, but none",
            ),
            (True, 7, "data.batch_size: expected at most the 7 training examples that each of 1 process has, got 8"),
        ],
    )
    def test_1_with_what_training_says_of_its_data(
        self, has_expressive: bool, num_examples: int, message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_imagefolder(workplace / "pairs", num_examples=num_examples, has_expressive=has_expressive)
        data = ["data=imagefolder", "data.root=pairs", "data.batch_size=8"]
        with pytest.raises(SystemExit, match="1"):
            main(["doctor", *SMALL, *data])
        assert f"- {message}" in " ".join(capsys.readouterr().out.split())
        with pytest.raises(SystemExit, match="2"):
            main(["train", *SMALL, *data])
        assert message in " ".join(capsys.readouterr().err.split())

    def test_no_image_is_opened(self, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_imagefolder(workplace / "pairs", num_examples=8)
        for image in (workplace / "pairs").rglob("*.png"):
            image.write_bytes(b"")
        data = ["data=imagefolder", "data.root=pairs", "data.batch_size=8"]
        main(["doctor", *SMALL, *data, "data.on_error=skip"])
        assert capsys.readouterr().out.endswith("The training can start.\n")

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["optimizer.rate=1"], "no such key"),
            (["size=huge"], "size=huge"),
            (["optimizer.lr=-1"], "optimizer.lr: expected a number > 0, got -1"),
            (["trainer.precision=7-bit"], "trainer.precision: expected 32-true, bf16-mixed"),
            (["trainable=some"], "trainable: expected one of paper, all, got some"),
            (["resume=nowhere"], "not a run directory"),
        ],
    )
    def test_2_for_mistakes(self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["doctor", *arguments])
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err

    @pytest.mark.faults
    def test_2_when_the_file_exists(self, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (workplace / "a.json").write_text("mine")
        with pytest.raises(SystemExit, match="2"):
            main(["doctor", *SMALL, "--json", "a.json"])
        assert "--json: expected a new file, but a.json exists" in capsys.readouterr().err
        assert (workplace / "a.json").read_text() == "mine"


def test_a_real_step_is_estimated(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", *SMALL, "data.batch_size=2", "--json", "needs.json"])
    kept = json.loads((workplace / "needs.json").read_text())["run"]["kept"]
    assert {"language model", "UNet", "edit head", "vision tower"} <= set(kept)
    assert "kept for the backward" in capsys.readouterr().out


@pytest.mark.faults
def test_broken_torchvision_is_named_and_not_a_traceback(mgie: Mgie, workplace: Path, tmp_path: Path) -> None:
    package = tmp_path / "broken" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    root = Path(__file__).resolve().parents[2]
    done = mgie("doctor", *SMALL, PYTHONPATH=f"{package.parent}:{root}")
    assert done.returncode == 1
    assert "operator torchvision::nms does not exist" in done.stdout
    assert "pip uninstall torchvision" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_papers_size_takes_seconds_in_a_process_of_its_own(mgie: Mgie) -> None:
    done = mgie("doctor", "experiment=mgie_7b_ipr2pr_released")
    assert done.returncode == 1, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "4 a batch x 1 batches x 8 processes = 32" in done.stdout
    assert "fits a device of 80 GiB" in lines
    assert max(map(len, done.stdout.splitlines())) <= 80
