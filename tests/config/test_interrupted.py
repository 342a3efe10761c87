from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from mgie_lit.config.interrupted import clear_leftovers, is_over, last_values
from mgie_lit.training.csv_logger import CSVLogger


def test_a_training_is_over_when_its_last_step_owes_nothing(tmp_path: Path) -> None:
    config = OmegaConf.create({"trainer": {"max_steps": 4}, "paths": {"run_dir": str(tmp_path)}})
    owed = {"step": 3, "row": {"train/loss": 1.0}, "validates": True, "known": {}}
    checkpoint = {"global_step": 4, "mgie_owed": owed}
    assert not is_over(config, checkpoint)
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"train/loss": 1.0, "epoch": 0}, 3)
    assert not is_over(config, checkpoint)
    logger.log_metrics({"val/loss": 2.0, "epoch": 0}, 3)
    assert is_over(config, checkpoint)
    assert not is_over(config, checkpoint | {"global_step": 3})
    config.trainer.max_steps = -1
    assert not is_over(config, checkpoint), "ends with its epochs"
    assert last_values(tmp_path) == {"step": 3.0, "epoch": 0.0, "train/loss": 1.0, "val/loss": 2.0}


def test_half_written_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {
        "config.yaml",
        "metrics.csv",
        "images/step-00000002.png",
        "checkpoints/step-2.ckpt",
        "checkpoints/step-2.ckpt.sha256",
    }
    drafts = {".config-x1.yaml", "metrics.tmp", "images/.12-step-00000004.png", "checkpoints/step-4.ckpt.part"}
    drafts |= {".processes-1/config.yaml"}
    for name in kept | drafts:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert not (tmp_path / ".processes-1").exists()
