from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.cli.main import main

pytestmark = pytest.mark.faults


class FakePipeline:
    """Inverts the image; remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[Mapping[str, Any]] = []
        self.device = torch.device("meta")

    def to(self, device: torch.device) -> None:
        self.device = device

    def __call__(
        self,
        *,
        image: list[Image.Image],
        instruction: list[str],
        generator: list[torch.Generator],
        on_step: Callable[[int, int], None],
        **settings: object,
    ) -> SimpleNamespace:
        on_step(1, 2)
        noise = [torch.rand(1, generator=one).item() for one in generator]
        self.calls.append({"instruction": instruction, "noise": noise, **settings})
        edited = [picture.point(lambda value: 255 - value) for picture in image]
        return SimpleNamespace(images=edited, expressive_instructions=[f"it is {words}" for words in instruction])


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    loaded: list[str] = []

    def load_pipeline(model: str) -> FakePipeline:
        loaded.append(model)
        return fake

    monkeypatch.setattr("mgie_lit.config.build.load_pipeline", load_pipeline)
    fake.loaded = loaded  # type: ignore[attr-defined]
    return fake


@pytest.fixture
def photo(workplace: Path) -> Path:
    path = workplace / "photos" / "cat.jpg"
    path.parent.mkdir()
    Image.new("RGB", (12, 8), (0, 0, 0)).save(path)
    return path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    with pytest.raises(SystemExit, match=str(status)):
        main(["edit", *arguments])
    return capsys.readouterr().err


def test_one_image(pipeline: FakePipeline, photo: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["edit", "photos/cat.jpg", "brighter", "--device", "cpu"])
    printed = capsys.readouterr()
    assert printed.out == "it is brighter\ncat_edited.png\n"
    assert "denoising" not in printed.err, "stderr is no terminal here"
    with Image.open(workplace / "cat_edited.png") as edited:
        assert (edited.format, edited.size, edited.getpixel((0, 0))) == ("PNG", (12, 8), (255, 255, 255))
    assert sorted(path.name for path in workplace.iterdir()) == ["cat_edited.png", "photos"]
    assert pipeline.loaded == ["tiny"]  # type: ignore[attr-defined]
    assert pipeline.device == torch.device("cpu")
    (call,) = pipeline.calls
    assert call == {
        "instruction": ["brighter"],
        "noise": [torch.rand(1, generator=torch.Generator().manual_seed(0)).item()],
        "preset": "plain",
        "num_inference_steps": None,
        "guidance_scale": None,
        "image_guidance_scale": None,
    }


def test_settings_reach_the_pipeline(pipeline: FakePipeline, photo: Path, workplace: Path) -> None:
    options = shlex.split(
        "--preset fast --steps 3 --guidance-scale 0 --image-guidance-scale 1.5 --seed 7 --device cpu --model my/model"
    )
    main(["edit", str(photo), "x", "-o", "deep/er/out.JPG", *options])
    (call,) = pipeline.calls
    assert (call["num_inference_steps"], call["guidance_scale"], call["image_guidance_scale"]) == (3, 0.0, 1.5)
    assert call["preset"] == "fast"
    assert call["noise"] == [torch.rand(1, generator=torch.Generator().manual_seed(7)).item()]
    assert pipeline.loaded == ["my/model"]  # type: ignore[attr-defined]
    with Image.open(workplace / "deep" / "er" / "out.JPG") as edited:
        assert edited.format == "JPEG"
        assert np.asarray(edited).min() > 250


def test_existing_output_is_kept(
    pipeline: FakePipeline, photo: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "cat_edited.png").write_text("precious")
    err = error_of(capsys, str(photo), "brighter")
    assert err == ("mgie edit: error: -o: expected a new file, but cat_edited.png exists; choose another with -o\n")
    assert (workplace / "cat_edited.png").read_text() == "precious"
    assert pipeline.loaded == []  # type: ignore[attr-defined]


def test_all_values_out_of_range_at_once(
    pipeline: FakePipeline, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = shlex.split("--steps 0 --guidance-scale -1 --image-guidance-scale nan --seed -3")
    assert error_of(capsys, str(photo), " ", *wrong).splitlines() == [
        "mgie edit: error: ",
        "  --steps: expected a number >= 1, got 0",
        "  --guidance-scale: expected a number >= 0, got -1.0",
        "  --image-guidance-scale: expected a number >= 0, got nan",
        f"  --seed: expected a number >= 0 and <= {2**63 - 1}, got -3",
        "  INSTRUCTION: expected words, got an empty text",
    ]
    assert pipeline.loaded == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.jpg"], 'expected IMAGE and "INSTRUCTION", or --batch FILE --out-dir DIR'),
        (["x.jpg", "y", "--out-dir", "d"], "--out-dir goes with --batch; name the output of one image with -o"),
        (["x.jpg", "y", "--batch-size", "2"], "--batch-size goes with --batch; one image is edited by itself"),
        (["--batch", "b", "--out-dir", "d", "--batch-size", "0"], "--batch-size: expected a number >= 1, got 0"),
        (["--batch", "b"], "--batch: expected --out-dir DIR as well"),
        (["x.jpg", "--batch", "b", "--out-dir", "d"], "--batch takes its images from the file; leave out IMAGE"),
        (["x.jpg", "y", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["x.jpg", "y", "--preset", "faster"], "argument --preset: invalid choice: 'faster'"),
        (["x.jpg", "y", "--stepz", "1"], "unrecognized arguments: --stepz"),
        (["x.jpg", "y", "-o", "out.gif"], "expected a name that ends in .png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff"),
        (["x.jpg", "y", "-o", "file/out.png"], "expected a folder to write into, but "),
        (["photos/cat.jpg", "y", "--device", "cuda:99"], "--device: expected one of cpu, got cuda:99"),
        (["photos/cat.jpg", "y", "--device", "tpu"], "--device: expected one of cpu, got tpu"),
        (["nowhere.jpg", "y"], "nowhere.jpg"),
    ],
)
def test_faulty_arguments(
    pipeline: FakePipeline,
    photo: Path,
    workplace: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mgie_lit.config.devices.available_devices", lambda: ["cpu"])
    (workplace / "file").touch()
    assert message in error_of(capsys, *arguments)
    assert pipeline.loaded == []  # type: ignore[attr-defined]


def test_truncated_image(pipeline: FakePipeline, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo.write_bytes(photo.read_bytes()[:200])
    err = error_of(capsys, str(photo), "brighter")
    assert err.startswith(f"mgie edit: error: {photo}")
    assert "Traceback" not in err
    assert pipeline.loaded == []  # type: ignore[attr-defined]


def test_help_says_what_a_model_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["edit", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "tiny (ships with mgie_lit), a run directory, a .ckpt file, an export folder or a hub id" in words
