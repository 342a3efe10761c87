from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mgie_lit.config.validate import validate_config
from mgie_lit.errors import ConfigError

FAULTY = """
optimizer: {lr: -1}
data: {root: "???", reader: {_target_: os.system}}
model: {_target_: torch.nn.Linear, in_featurs: 3}
width: ${size.widht}
loop: ${loop}
items: [1, "${nothing}"]
"""


@pytest.mark.faults
def test_all_faults_with_their_paths() -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config(OmegaConf.create(FAULTY))
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "data.root",
        "width",
        "loop",
        "items[1]",
        "optimizer.lr",
        "data.reader._target_",
        "model.in_featurs",
    ]
    assert lines[0] == "data.root: a value is needed; give it as data.root=<value>"
    assert lines[1].startswith("width: cannot resolve ${size.widht}: Interpolation key 'size.widht' not found")
    assert lines[2] == "loop: cannot resolve ${loop}: Recursive interpolation detected"


def test_good_config_passes_unchanged() -> None:
    config = OmegaConf.create({"a": {"_target_": "torch.nn.Linear", "in_features": "${n}"}, "n": 3, "empty": None})
    before = OmegaConf.to_container(config)
    validate_config(config)
    assert OmegaConf.to_container(config) == before


def test_hydras_own_node_and_unused_keys_are_not_looked_at() -> None:
    config = OmegaConf.create({"hydra": {"_target_": "os.system"}, "size": {"source": "???", "n": 4}, "n": "${size.n}"})
    validate_config(config, unused={"size"})
    with pytest.raises(ConfigError, match=r"^size\.source: a value is needed; give it as size\.source=<value>$"):
        validate_config(config)


@pytest.mark.faults
@pytest.mark.parametrize(("start", "folder"), [("an-export", "an-export"), (None, "<folder>")])
def test_one_folder_for_all_parts(start: str | None, folder: str) -> None:
    message = (
        rf"^size\.start: expected a folder for each part, got {start or 'null'}; give size\.start\.mllm={folder} size\."
    )
    with pytest.raises(ConfigError, match=message):
        validate_config(OmegaConf.create({"size": {"start": start}}))
