from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from mgie_lit.config.compose import compose_config
from mgie_lit.config.resume import resumed_training
from mgie_lit.config.runs import write_run_files


def test_a_directory_that_was_moved_is_written_to_where_it_lies(tmp_path: Path) -> None:
    """The recorded config names it in many places: table, checkpoints, pictures."""
    before, now = tmp_path / "before", tmp_path / "now"
    config = compose_config("train", ["experiment=smoke", "logger=wandb", f"paths.run_dir={before}"])
    write_run_files(before, config, ["experiment=smoke"])
    before.rename(now)
    resumed = resumed_training(compose_config("train", [f"resume={now}"]), [f"resume={now}"])
    text = OmegaConf.to_yaml(resumed)
    assert str(before) not in text
    assert resumed.logger.csv.run_dir == resumed.logger.wandb.save_dir == str(now)
    assert resumed.callbacks.checkpoint.dirpath == f"{now}/checkpoints"
