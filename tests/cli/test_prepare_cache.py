"""`mgie prepare cache` and a training with what it made, from the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mgie_lit.cli.main import main

# Frozen vision tower; the small size's autoencoder has nothing to cache.
TRAINING = ["experiment=smoke", "trainable=paper", "data.num_examples.train=8", "data.num_examples.val=3"]
TRAINING += ["data.batch_size=4", "data.num_workers=0", "callbacks.evaluate=null"]
OWN = ["cache.num_workers=0", "cache.device=cpu", "cache.batch_size=4"]


def losses(run: Path) -> list[tuple[str, str]]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [(row["step"], row["train/loss"]) for row in rows if row.get("train/loss")]


@pytest.mark.slow
def test_a_training_with_its_cache(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached = [*TRAINING, "++data.cache=my_cache"]
    main(["prepare", "cache", *cached, *OWN])
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-2:] == ["11 examples; encoded: 11 vision", "my_cache"]
    main(["prepare", "cache", *cached, *OWN])
    assert "11 examples; encoded: nothing, all was there" in capsys.readouterr().out
    main(["train", *TRAINING, "paths.run_dir=plain"])
    main(["train", *cached, "paths.run_dir=cached"])
    expected = losses(Path("plain"))
    assert len(expected) >= 1
    found = losses(Path("cached"))
    assert [float(loss) for _, loss in found] == pytest.approx([float(loss) for _, loss in expected], rel=1e-5)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "data.cache: expected the folder that the training will be given, got null"),
        (
            ["++data.cache=c", "cache.splits=[trian]"],
            "cache.splits: expected a list of train, val, test, got ['trian']",
        ),
        (["++data.cache=c", "cache.parts=[pixels]"], "cache.parts: expected a list of latents, vision, or null, got"),
        (["++data.cache=c", "cache.parts=[latents]"], "cache.parts: no latents: PatchAutoencoder has no weights"),
        (
            ["++data.cache=c", "cache.parts=[vision]", "trainable=all"],
            "cache.parts: no vision: the vision tower trains",
        ),
        (["++data.cache=c", "trainable=all"], "cache.parts: no vision: the vision tower trains"),
        (["++data.cache=c", "cache.device=cuda:77"], "cache.device: expected one of"),
    ],
)
def test_mistakes(overrides: list[str], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "cache", *TRAINING, *OWN, *overrides])
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not (workplace / "c").exists()


@pytest.mark.faults
def test_a_training_without_its_cache_says_what_to_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", *TRAINING, "++data.cache=nowhere"])
    assert "expected a folder made by `mgie prepare cache`, got nowhere" in capsys.readouterr().err
