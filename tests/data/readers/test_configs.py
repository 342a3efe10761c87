"""Each data set by its config, as the commands open it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.config.build import build_dataset
from mgie_lit.config.compose import compose_config
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.errors import ConfigError
from mgie_lit.testing.datasets import WRITERS
from mgie_lit.testing.random_data import tiny_collator
from mgie_lit.testing.tiny_models import tiny_guide

MIXTURE = "ipr2pr_magicbrush"


def overrides(name: str, folder: Path) -> list[str]:
    if name == MIXTURE:
        roots = [f"data.{part}.root={folder / part}" for part in ("ipr2pr", "magicbrush")]
        return [f"data={name}", "data.expressive=instruction", *roots]
    return [f"data={name}", f"data.root={folder / name}", "data.expressive=instruction"]


@pytest.mark.parametrize("name", [*WRITERS, MIXTURE])
def test_a_batch_of_every_data_set(name: str, datasets_dir: Path) -> None:
    config = compose_config("train", overrides(name, datasets_dir))
    data = EditDataModule(
        lambda split, num_examples: build_dataset(config, split),
        tiny_collator(tiny_guide()),
        num_examples=config.data.num_examples,
        batch_size=3,
    )
    batch = next(iter(data.train_dataloader()))
    assert len(set(batch.sample_ids)) == 3
    assert batch.source.shape == batch.target.shape == (3, 3, 16, 16)
    assert (batch.source - batch.target).abs().amax((1, 2, 3)).min() > 0.1
    assert batch.expressive_instructions == batch.instructions
    assert len(next(iter(data.val_dataloader())).sample_ids) > 0


@pytest.mark.faults
@pytest.mark.parametrize("name", WRITERS)
def test_root_has_to_be_given(name: str) -> None:
    config = compose_config("train", [f"data={name}"])
    with pytest.raises(
        ConfigError, match=rf"^data\.root: expected the folder of {name}, got null; see docs/.*#{name}$"
    ):
        build_dataset(config, "train")


@pytest.mark.faults
def test_roots_of_a_mixture_have_to_be_given(datasets_dir: Path) -> None:
    config = compose_config("train", [f"data={MIXTURE}", f"data.ipr2pr.root={datasets_dir / 'ipr2pr'}"])
    with pytest.raises(ConfigError, match=r"^data\.magicbrush\.root: expected the folder of magicbrush, got null"):
        build_dataset(config, "train")


def test_docs_have_the_sections_that_errors_name() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for anchor in [*WRITERS, "mixtures"]:
        assert f"\n## {anchor}\n" in text
