from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageChops

from mgie_lit.demo.engine import Job
from mgie_lit.demo.requests import EditRequest
from mgie_lit.demo.server import Server, check_port
from mgie_lit.demo.studio import Studio
from mgie_lit.errors import ConfigError
from mgie_lit.testing.random_data import random_image

if TYPE_CHECKING:
    from conftest import FakeModel

gradio_client = pytest.importorskip("gradio_client")
httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.filterwarnings("default:::gradio", "default:::gradio_client")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect(server: Server, tmp_path: Path) -> Any:  # noqa: ANN401
    return gradio_client.Client(server.url, verbose=False, download_files=tmp_path / "down", analytics_enabled=False)


def post_edit(server: Server, image: dict[str, Any]) -> Any:  # noqa: ANN401
    return httpx.post(f"{server.url}gradio_api/call/v2/edit", json={"image": image, "instruction": "go"})


def answer_of(server: Server, response: Any) -> str:  # noqa: ANN401
    return httpx.get(f"{server.url}gradio_api/call/v2/edit/{response.json()['event_id']}").text


class TestServer:
    """Starting it takes a second, so one test has several facts."""

    def test_edit_through_the_client(
        self, server: Server, studio: Studio, tmp_path: Path, models: dict[str, FakeModel]
    ) -> None:
        client = connect(server, tmp_path)
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/edit"]
        random_image(20, 12, seed=0).save(tmp_path / "a.png")
        picture = gradio_client.handle_file(tmp_path / "a.png")
        settings = {"model": "second", "seed": 9, "steps": 2, "guidance_scale": 3.5, "image_guidance_scale": 1}
        edited, words = client.predict(picture, "invert", api_name="/edit", **settings)
        expected = Image.eval(random_image(20, 12, seed=0), lambda value: 255 - value)
        assert ImageChops.difference(Image.open(edited), expected).getbbox() is None
        assert words == "second read invert"
        assert models["second"].calls[0]["num_inference_steps"] == 2
        client.predict(picture, "invert", api_name="/edit")  # all settings of the first model
        assert models["first"].calls[0]["num_inference_steps"] is None

        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        faults = [
            ({}, tmp_path / "broken.png", "broken.png: expected a"),
            ({"steps": 101}, tmp_path / "a.png", "Steps: expected a number from 1 to 100, got 101"),
            ({"steps": "x"}, tmp_path / "a.png", "steps: expected a number, got 'x'"),
            ({"model": "/etc"}, tmp_path / "a.png", "Model: expected one of first, second, got '/etc'"),
        ]
        for change, path, message in faults:
            with pytest.raises(gradio_client.exceptions.AppError, match=message):
                client.predict(gradio_client.handle_file(path), "go", api_name="/edit", **change)

    def test_cancel_stops_the_computation(
        self, server: Server, tmp_path: Path, models: dict[str, FakeModel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, stop, stopped = models["first"], Job.stop, threading.Event()
        monkeypatch.setattr(Job, "stop", lambda job: (stop(job), stopped.set()))
        model.gate.clear()
        random_image(20, 12, seed=0).save(tmp_path / "a.png")
        picture = gradio_client.handle_file(tmp_path / "a.png")
        client = connect(server, tmp_path)
        job = client.submit(picture, "go", steps=50, api_name="/edit")
        wait_for(lambda: bool(model.calls))
        job.cancel()
        assert stopped.wait(60)  # the client knows before the server does
        model.gate.set()
        client.predict(picture, "go", steps=2, api_name="/edit")  # the engine is free again
        assert model.steps_done == 2  # and none of the fifty was made

    def test_full_queue(self, server: Server, studio: Studio, tmp_path: Path, models: dict[str, FakeModel]) -> None:
        models["first"].gate.clear()
        path = studio.files.save(random_image(20, 12, seed=0))
        jobs = [studio.edit([EditRequest(path, "go", "first")])]
        wait_for(lambda: bool(models["first"].calls))
        jobs += [studio.edit([EditRequest(path, "go", "first")]) for _ in range(studio.limits.queue)]
        client = connect(server, tmp_path)
        with pytest.raises(gradio_client.exceptions.AppError, match="The queue is full: 32 jobs wait already"):
            client.predict(gradio_client.handle_file(path), "go", api_name="/edit")
        models["first"].gate.set()
        for job in jobs:
            job.result(10)

    def test_no_other_file_can_be_read(self, server: Server, studio: Studio, tmp_path: Path) -> None:
        (tmp_path / "secret.txt").write_text("secret")
        own = studio.files.save(Image.new("RGB", (2, 2)))
        with httpx.Client(base_url=server.url) as http:
            assert http.get(f"gradio_api/file={own}").status_code == 200
            for name in (
                "/etc/passwd",
                "//etc/passwd",
                tmp_path / "secret.txt",
                f"{studio.files.folder}/../{tmp_path.name}/secret.txt",
                f"{own.parent}/%2e%2e/%2e%2e/{tmp_path.name}/secret.txt",
                "pyproject.toml",
                "file:///etc/passwd",
                f"{server.url}config",
                f"{server.url}config".replace(":", "%3A"),
            ):
                for route in (
                    "gradio_api/file=",
                    "gradio_api/file/",
                    "file=",
                    "gradio_api/proxy=",
                    "static/",
                    "assets/",
                ):
                    response = http.get(f"{route}{name}")
                    assert response.status_code in {403, 404, 405}, (route, name, response.text[:200])
        for path in (
            "/etc/passwd",
            str(tmp_path / "secret.txt"),
            "pyproject.toml",
            f"{server.url}config",
            "data:,x",
            "",
        ):
            for extra in ({}, {"meta": {"_type": "gradio.FileData"}}):
                response = post_edit(server, {"path": path, **extra})
                assert response.status_code == 403, path
                assert response.json()["detail"].startswith("Expected a picture that was uploaded here")

    def test_plain_http(self, server: Server) -> None:
        """As docs/demo.md shows it with curl."""
        picture = io.BytesIO()
        random_image(20, 12, seed=0).save(picture, "PNG")
        files = {"files": ("a.png", picture.getvalue())}
        (path,) = httpx.post(f"{server.url}gradio_api/upload", files=files).json()
        answer = answer_of(server, post_edit(server, {"path": path}))
        assert answer.startswith("event: complete")
        edited, words = json.loads(answer.partition("data: ")[2])
        assert words == "first read go"
        assert Image.open(io.BytesIO(httpx.get(edited["url"]).content)).size == (20, 12)

    def test_limits_of_the_web_server(self, server: Server, studio: Studio) -> None:
        with httpx.Client(base_url=server.url) as http:
            big = io.BytesIO(b"x" * (studio.limits.bytes + 1))
            response = http.post("gradio_api/upload", files={"files": ("big.png", big)})
            assert (response.status_code, response.text) == (
                413,
                "The file is too large: expected at most 20 MB; make it smaller",
            )
            assert http.post("gradio_api/queue/join", content=b"x" * 2_000_001).status_code == 413
            page = http.get("")
            assert page.status_code == 200
            assert "default-src 'self'" in page.headers["content-security-policy"]
            assert http.get("", headers={"host": "evil.example"}).status_code == 400
            assert json.loads(http.get("config").text)["analytics_enabled"] is False


def test_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port: expected a free port, got {port} at 127\.0\.0\.1 .*another"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
