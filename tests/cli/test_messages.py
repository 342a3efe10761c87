from __future__ import annotations

import pytest
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError
from torch._utils import ExceptionWrapper

from mgie_lit.cli.messages import shows_tracebacks, user_message
from mgie_lit.errors import DataError

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    "error", [DataError("it"), ConfigCompositionException("it"), ConfigKeyError("it"), MisconfigurationException("it")]
)
def test_mistakes_of_the_user(error: Exception) -> None:
    assert user_message(error) == "it"


def test_a_mistake_that_a_process_of_the_loader_met() -> None:
    for text in ("a.jpg: missing", "two\nlines"):
        try:
            raise DataError(text)
        except DataError:
            wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
        with pytest.raises(DataError, match="Traceback") as caught:
            wrapped.reraise()
        assert user_message(caught.value) == text


@pytest.mark.parametrize("error", [KeyError("k"), ValueError("v"), RuntimeError("r"), OSError("o")])
def test_internal_errors(error: Exception) -> None:
    assert user_message(error) is None


def test_value_that_a_constructor_refuses() -> None:
    config = OmegaConf.create({"layer": {"_target_": "torch.nn.MultiheadAttention", "embed_dim": -1, "num_heads": 1}})
    with pytest.raises(InstantiationException) as caught:
        instantiate(config.layer)
    assert user_message(caught.value) == "layer: " + str(caught.value.__cause__)
    assert "embed_dim=-1" in str(user_message(caught.value))


def test_internal_error_inside_a_constructor() -> None:
    error = InstantiationException("Error in call to target 'a.b':\nRuntimeError('x')\nfull_key: layer")
    error.__cause__ = RuntimeError("x")
    assert user_message(error) is None


def test_user_error_inside_a_constructor() -> None:
    error = InstantiationException("Error in call to target 'a.b':\nDataError('x')\nfull_key: data.reader")
    error.__cause__ = DataError("no such folder")
    assert user_message(error) == "data.reader: no such folder"


def test_package_that_is_missing() -> None:
    error = InstantiationException("Error locating target 'a.b'\nfull_key: hydra.sweeper.sampler")
    error.__cause__ = ImportError("No module named 'a'")
    assert user_message(error) == "hydra.sweeper.sampler: No module named 'a'"


def test_target_that_cannot_be_found() -> None:
    assert user_message(InstantiationException("Error locating target 'a.b'")) == "Error locating target 'a.b'"


def test_debug_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MGIE_DEBUG", raising=False)
    assert not shows_tracebacks()
    monkeypatch.setenv("MGIE_DEBUG", "1")
    assert shows_tracebacks()
