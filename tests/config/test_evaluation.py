"""`mgie eval` as a whole, on a system without weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from mgie_lit.config.evaluation import _device_of, _refuse_torchrun, resumed_evaluation
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.testing.datasets import write_imagefolder

FEW = ("model=copy", "data.num_examples.test=12", "batch_size=2")


def mgie(*arguments: str, cwd: Path, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mgie_lit.cli.main", "eval", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_three_processes_equal_one_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    metrics = "metrics=[pixel,l2]"
    mgie(*FEW, metrics, "paths.run_dir=one", cwd=tmp_path)
    mgie(*FEW, metrics, "paths.run_dir=three", "num_processes=3", cwd=tmp_path)
    expected = (tmp_path / "one/metrics.json").read_text()
    assert (tmp_path / "three/metrics.json").read_text() == expected
    table = pd.read_parquet(tmp_path / "one/per_sample.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "three/per_sample.parquet"), table, check_exact=True)

    # what a kill in the middle leaves behind: the record, some rows, and half a row
    killed = tmp_path / "killed"
    mgie(*FEW, metrics, "paths.run_dir=killed", cwd=tmp_path)
    for name in ("metrics.json", "per_sample.parquet", "grid.png"):
        (killed / name).unlink()
    begun = "from mgie_lit.config.evaluation import _make_plan; from mgie_lit.config.runs import read_run_config\n"
    begun += "from pathlib import Path; plan = _make_plan(read_run_config(Path('killed')))\n"
    begun += "plan.claim(); plan.run_share(0, 2)"
    subprocess.run([sys.executable, "-c", begun], cwd=tmp_path, check=True)
    with (killed / "progress/rank-0.jsonl").open("a") as file:
        file.write('{"sample_id": "te')
    wrong = mgie("resume=killed", "seed=3", cwd=tmp_path, status=2)
    assert "changed; undo the change, or start a new evaluation" in wrong.stderr
    done = mgie("resume=killed", "num_processes=2", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "killed"
    assert (killed / "metrics.json").read_text() == expected
    assert not (killed / "progress").exists()
    assert not list((tmp_path / "runs").glob("*/*")), "a resumed evaluation has no directory of its own"


@pytest.mark.slow
def test_worker_that_fails_is_an_error_and_can_be_repaired(tmp_path: Path) -> None:
    mgie(*FEW, "paths.run_dir=made", "num_seeds=2", cwd=tmp_path)
    assert json.loads((tmp_path / "made/metrics.json").read_text())["spread"]["l1"]["over_seeds"] == 0.0
    images = sorted((tmp_path / "made/images").glob("*.png"))
    images[2].write_bytes(b"no image")
    arguments = ("predictions=made/images", "data.num_examples.test=12")
    refused = mgie(*arguments, "num_seeds=2", "paths.run_dir=out", cwd=tmp_path, status=2)
    assert "1 unreadable: made/images/" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_scores_on_training_examples_are_warned_of(tmp_path: Path) -> None:
    write_imagefolder(tmp_path / "my_pairs", num_examples=2)
    data = ("data=imagefolder", "data.root=my_pairs", "save_images=false")
    done = mgie("model=copy", *data, "paths.run_dir=out", cwd=tmp_path)
    assert "data: the splits train, val, test hold the same examples" in done.stderr
    protocol = json.loads((tmp_path / "out/metrics.json").read_text())["protocol"]
    assert protocol["shared_splits"] == ["train", "val", "test"]
    heading, first, *_, last = done.stdout.splitlines()
    assert heading.split() == ["metric", "model", "copy", "difference", "95", "%", "interval"]
    assert first.split()[:2] == ["L1", "↓"]
    assert first.split()[2] == first.split()[3]  # copying beside itself
    assert first.split()[4:] == ["+0.0000", "+0.0000", "to", "+0.0000"]
    assert last.endswith("out")


def test_torchrun_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    _refuse_torchrun()  # a cluster's variable alone says nothing
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(
        ConfigError, match=r"expected to be started once, got 2 processes of torchrun; .*num_processes=<n>"
    ):
        _refuse_torchrun()


def test_complete_evaluation_does_not_go_on(tmp_path: Path) -> None:
    config = OmegaConf.create({"resume": str(tmp_path)})
    with pytest.raises(CheckpointError, match="not a run directory"):
        resumed_evaluation(config)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"resume: expected an evaluation that was interrupted, got .*, which is complete"
    ):
        resumed_evaluation(config)


def test_processes_have_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [_device_of("cuda", rank) for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert _device_of("cpu", 1) == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert _device_of("cuda", 1) == "cuda"


@pytest.mark.slow
def test_an_outage_of_wandb_does_not_stop_an_evaluation(tmp_path: Path) -> None:
    quick = ("logger=wandb", "logger.wandb.offline=false", "logger.wandb.settings.init_timeout=1")
    done = mgie(
        *FEW,
        *quick,
        "paths.run_dir=out",
        cwd=tmp_path,
        WANDB_MODE="online",
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY="a" * 40,
    )
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out")
    assert "out could not be handed over" in done.stderr
    assert json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]["l1"]["n"] == 12


@pytest.mark.slow
def test_an_evaluation_in_wandb_has_the_names_of_its_directory(tmp_path: Path) -> None:
    mgie(*FEW, "logger=wandb", "logger.wandb.project=mine", "paths.run_dir=out", cwd=tmp_path)
    records = b"".join(path.read_bytes() for path in tmp_path.glob("out/wandb/offline-run-*/*.wandb"))
    for word in (b"mine", b"eval", b"test/l1_ci_low", b"test/per_sample", b"test/samples"):
        assert word in records, word
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
