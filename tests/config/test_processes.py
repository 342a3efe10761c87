from __future__ import annotations

import pytest
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from omegaconf import OmegaConf

from mgie_lit.config.compose import compose_config
from mgie_lit.config.processes import Place, check_alone, check_sharded, cluster_environment
from mgie_lit.errors import ConfigError

ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "GROUP_RANK": "1"}
STEP = {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "77",
}  # fmt: skip
BATCH_SCRIPT = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train"}


def test_who_started_this_process() -> None:
    assert Place.find(ELASTIC) == Place("torchrun", 3, 4)
    assert Place.find(STEP) == Place("srun", 5, 8)
    for alone in ({}, BATCH_SCRIPT, {"RANK": "1", "WORLD_SIZE": "2"}, ELASTIC | {"WORLD_SIZE": "1", "RANK": "0"}):
        assert Place.find(alone) is None


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        (ELASTIC | {"MASTER_ADDR": "a", "MASTER_PORT": "1"}, TorchElasticEnvironment),
        (STEP, SLURMEnvironment),
        (BATCH_SCRIPT, LightningEnvironment),  # our own processes inside a job: their variables are not Slurm's
        ({}, LightningEnvironment),
    ],
    ids=["torchrun", "srun", "batch script", "none"],
)
def test_lightning_reads_the_same_variables(
    variables: dict[str, str], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    environment = cluster_environment()
    assert type(environment) is kind
    assert not getattr(environment, "auto_requeue", False)


@pytest.mark.faults
def test_number_of_processes_has_to_be_the_config_s() -> None:
    config = OmegaConf.create({"trainer": {"devices": 2, "num_nodes": 2}})
    Place("torchrun", 0, 4).check(config)
    expected = r"to be the 8 that srun has started, got 2 x 2; give both, e\.g\. trainer\.devices=4"
    with pytest.raises(ConfigError, match=expected):
        Place("srun", 0, 8).check(config)
    with pytest.raises(ConfigError, match="got auto x 1"):
        Place("srun", 0, 8).check(OmegaConf.create({"trainer": {"devices": "auto"}}))
    with pytest.raises(ConfigError, match=r"trainer\.num_nodes: expected 1 where no launcher .* got 2; start it with"):
        check_alone(config)
    check_alone(OmegaConf.create({"trainer": {"devices": 2}}))


def test_sharded_training_is_announced_as_experimental(caplog: pytest.LogCaptureFixture) -> None:
    for overrides, fault in (
        (["callbacks=[default,ema]"], r"callbacks\.ema: expected whole weights in each process, got trainer=fsdp"),
        (["callbacks.non_finite.action=rollback"], r"callbacks\.non_finite\.action=rollback: expected whole weights"),
    ):
        with pytest.raises(ConfigError, match=fault):
            check_sharded(compose_config("train", ["trainer=fsdp", "paths.run_dir=unused", *overrides]))
    assert not caplog.records
    check_sharded(compose_config("train", ["trainer=ddp", "paths.run_dir=unused"]))
    assert not caplog.records
    check_sharded(compose_config("train", ["trainer=fsdp", "paths.run_dir=unused"]))
    assert "trainer=fsdp is experimental" in caplog.text
