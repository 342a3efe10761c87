"""Every notebook runs from beginning to end on the CPU, without a network, and what it claims holds."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
CELL_TIMEOUT = 300  # seconds

# Run after the last cell, in the notebook's own process, on its own variables.
CLAIMS = {
    "01_quick_start": """
        assert out.expressive_instructions == [
            "every color is replaced by its inverse like a negative", "all color is gone and only gray tones are left"
        ]
        from PIL import ImageStat

        light = [ImageStat.Stat(image.convert("L")).mean[0] for image in (photo, *out.images)]
        assert abs(light[0] + light[1] - 255) < 40, light
        red, _, blue = ImageStat.Stat(Image.open("cold.png")).mean
        assert red - blue < ImageStat.Stat(photo).mean[0] - ImageStat.Stat(photo).mean[2] - 20
        assert Image.open("cold.png").size == photo.size
        last = log[["val/l1", "val/copy_l1", "val/expressive_exact"]].dropna().iloc[-1]
        assert last["val/l1"] < 0.5 * last["val/copy_l1"]
        assert last["val/expressive_exact"] == 1.0
    """,
    "02_one_batch": """
        torch.testing.assert_close(loss_lm, trainer.callback_metrics["train/loss_lm"])
        torch.testing.assert_close(loss_edit, trainer.callback_metrics["train/loss_edit"])
        with torch.no_grad():
            losses = editor.losses(batch, draws, objective)
        torch.testing.assert_close(by_hand["train/loss"], losses.loss)
        assert 1.0 < loss_lm < 5.0 and 0.001 < loss_edit < 0.05
        assert drop_text.any() and not drop_text.all()
        assert nats[0][is_label[0]].mean() < 0.001 < 1.0 < nats[3][is_label[3]].mean()
        assert int(is_read.sum()) == 4 * num_visual
        for row in range(4):
            first = int(is_read[row].nonzero()[0])
            assert ids[row, first + 1] == prompt.visual_ids[0]
        assert condition.expressive_instructions[:3] == batch.expressive_instructions[:3]
        moved, owed = (edited - batch.target).abs().mean((1, 2, 3)), (batch.source - batch.target).abs().mean((1, 2, 3))
        assert (moved < 0.5 * owed).all()
        assert torch.equal(mixtures["both scales 1"], mixtures["source and instruction"])
        source_alone = (mixtures["source alone"] - source_latents[3:]).abs().mean()
        assert source_alone < 0.5 * (mixtures["null"] - source_latents[3:]).abs().mean()
    """,
    "03_your_own_data": """
        found = pd.read_parquet("checked/findings.parquet").query("severity != 'info'")
        assert dict(zip(found["id"], found["finding"])) == {
            "train-03": "unreadable", "train-07": "unedited", "train-11": "leak"
        }
        left_out = {json.loads(line)["id"] for line in Path("checked/exclude.jsonl").read_text().splitlines()}
        assert left_out == set(found["id"])
        assert len(words) == 48 + 8 - 3
        assert list(log["train/loss_lm"].dropna().index) == list(range(1, 60, 2))
        assert result["metrics"]["l1"]["mean"] < 0.25 * result["copy"]["l1"]["mean"]
        assert set(scores["expressive_instruction"]) == {sentence}
        assert Path("runs/old_print/resumes.jsonl").exists()
    """,
    "04_score_outputs": """
        means = {name: result["metrics"]["l1"]["mean"] for name, result in results.items()}
        copy = results["tiny"]["copy"]["l1"]["mean"]
        assert means["tiny"] < 0.05 < means["filters"] < copy == results["filters"]["copy"]["l1"]["mean"]
        assert abs(difference.mean() - (means["tiny"] - means["filters"])) < 1e-9
        low, high = bootstrap.intervals(difference.to_numpy()[:, None], pairs["session_id_tiny"])[:, 0]
        assert low < difference.mean() < high < 0
        interval = results["tiny"]["metrics"]["l1"]
        assert abs(widths["tiny", "l1", "session_id"] - (interval["ci_high"] - interval["ci_low"])) < 1e-9
        assert by_edit.loc["darker", "filters"] > by_edit.loc["darker", "copy"]
        told = Path("report.md").read_text()
        assert f"{difference.mean():+.4f}".replace("-", "\\u2212") in told
    """,
    "05_published_weights": """
        assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
        assert counts["all"] == {"parameters": 8_021_029_035, "of which train": 1_153_725_380}
        assert sum(need["total"] for need in needs["mixed"]["parts"]) == counts["all"]["parameters"]
        more = needs["mixed"]["memory"]["weights"] - needs["half"]["memory"]["weights"]  # of frozen matrices none
        assert abs(more / (2 * counts["all"]["of which train"]) - 1) < 0.01
        assert memory.loc["bf16-true", "total"] < memory.loc["bf16-mixed", "total"] < 80
        assert needs["mixed"]["problems"]
        assert len(same) == len(expected) > 500
        assert out.images[0].size == photo.size
        trained = {name for name in checkpoint["state_dict"] if "vision_tower" in name or "projector" in name}
        assert not trained and set(checkpoint[FROZEN_KEY]) == {"guide.mllm", "autoencoder"}
        assert all(torch.equal(*pair) for pair in pairs) and len(pairs) > 300
    """,
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own interpreter as the only kernel and as ``mgie``; all that is written goes below ``tmp_path``."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "tests", "language": "python"}))
    command = tmp_path / "bin" / "mgie"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mgie_lit.cli.main "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("JUPYTER_PATH", str(kernel.parents[1]))
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    for name in ("HF_HUB_OFFLINE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def test_every_notebook_has_claims(folder: Path) -> None:
    assert sorted(CLAIMS) == [path.stem for path in sorted(folder.glob("*.ipynb"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_and_keeps_its_word(notebook: Path, tmp_path: Path) -> None:
    content = nbformat.read(notebook, as_version=4)
    lines = CLAIMS[notebook.stem].strip("\n").splitlines()
    content.cells.append(nbformat.v4.new_code_cell("\n".join(line[8:] for line in lines)))
    (tmp_path / "work").mkdir()
    client = NotebookClient(
        content,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path / "work")}},
    )
    client.execute()
    assert list((tmp_path / "work").iterdir()) == [], "a notebook writes only into a folder of its own"
