from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mgie_lit.cli.main import main
from mgie_lit.testing.random_data import random_image

ROOT = Path(__file__).resolve().parents[2]


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", *arguments])
    return capsys.readouterr().err


@pytest.mark.faults
class TestErrors:
    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr("mgie_lit.cli.demo.find_spec", lambda name: None)
        message = 'expected the package gradio, which is not installed; pip install "mgie-lit[demo]"'
        assert message in failure(capsys)

    def test_ranges(self, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("gradio")
        assert "--port: expected a number from 1 to 65535, got 0" in failure(capsys, "--port", "0")
        assert "--keep-models: expected an integer >= 1, got 0" in failure(capsys, "--keep-models", "0")
        assert "--max-queue: expected an integer >= 1, got 0" in failure(capsys, "--max-queue", "0")

    def test_port_taken_and_open_host(self, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("gradio")
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            assert f"--port: expected a free port, got {port} at 127.0.0.1" in failure(capsys, "--port", port)
            text = failure(capsys, "--port", port, "--host", "0.0.0.0")
        assert (
            "warning: with --host 0.0.0.0 everybody who can reach this machine can use the demo; it has no login"
            in text
        )

    def test_model_that_is_none(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        pytest.importorskip("gradio")
        text = failure(capsys, "--port", "7899", "--model", str(tmp_path))
        assert f"model {tmp_path}: expected a folder with model_index.json" in text


def test_command_serves_edits_and_leaves_nothing(tmp_path: Path) -> None:
    """With the weights that ship, in a process of its own."""
    gradio_client = pytest.importorskip("gradio_client")
    assert importlib.util.find_spec("gradio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "mgie_lit.cli.main", "demo", "--port", str(port), "--model", "tiny"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url == f"http://127.0.0.1:{port}/"
            client = gradio_client.Client(url, verbose=False, download_files=tmp_path / "down", analytics_enabled=False)
            random_image(80, 60, seed=0).save(tmp_path / "a.png")
            edited, words = client.predict(
                gradio_client.handle_file(tmp_path / "a.png"), "make it brighter", api_name="/edit"
            )
            assert (Path(edited).suffix, words) == (".png", "the whole photo becomes brighter and lighter")
            assert list(scratch.glob("mgie-demo-*/*/edited.png"))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode == 0
    assert list(scratch.glob("mgie-demo-*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "down", "scratch"]
    assert tempfile.gettempdir() != str(scratch)
