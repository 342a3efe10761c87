"""A folder of images scored by ``evaluate``, against scikit-image and NumPy in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mgie_lit.data.image_files import open_image
from mgie_lit.data.photo_edits.photographs import photographs
from mgie_lit.evaluation.evaluate import evaluate
from mgie_lit.evaluation.systems import PredictionFolder
from mgie_lit.metrics.pixel import L1, L2, PSNR, SSIM
from mgie_lit.types import EditExample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Pictures:
    """Photographs of several sizes as targets."""

    def __init__(self) -> None:
        self.images = {one.name: open_image(one.path) for one in photographs("test")}
        for image in self.images.values():
            image.thumbnail((300, 300))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> EditExample:
        name = self.sample_id(index)
        return EditExample(name, self.images[name], self.images[name], "edit")

    def sample_id(self, index: int) -> str:
        return list(self.images)[index]


def spoiled(image: Image.Image, kind: str) -> Image.Image:
    pixels = np.asarray(image)
    if kind == "noise":
        noise = np.random.default_rng(0).integers(-40, 41, pixels.shape)
        return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    if kind == "gamma":
        return Image.fromarray((255.0 * (pixels / 255.0) ** 0.8).round().astype(np.uint8))
    changed = pixels.copy()
    changed[3:6, 4:8, 1] ^= 1  # one level of a few pixels
    return Image.fromarray(changed)


def reference(edited: NDArray[np.float64], target: NDArray[np.float64]) -> dict[str, float]:
    similarity = structural_similarity(
        edited,
        target,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
    )
    return {
        "l1": float(np.abs(edited - target).mean()),
        "l2": float(((edited - target) ** 2).mean()),
        "psnr": float(peak_signal_noise_ratio(target, edited, data_range=1.0)),
        "ssim": float(similarity),
    }


@pytest.mark.parametrize("kind", ["noise", "gamma", "pixel"])
def test_equals_scikit_image_and_numpy(tmp_path: Path, kind: str) -> None:
    dataset = Pictures()
    (tmp_path / "made").mkdir()
    expected = {}
    for name, target in dataset.images.items():
        edited = spoiled(target, kind)
        edited.save(tmp_path / "made" / f"{name}.png")
        expected[name] = reference(*(np.asarray(image, dtype=np.float64) / 255.0 for image in (edited, target)))
    metrics = {"l1": L1(), "l2": L2(), "psnr": PSNR(), "ssim": SSIM()}
    result: Any = evaluate(PredictionFolder(tmp_path / "made"), dataset, metrics, out_dir=tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out/per_sample.parquet").set_index("sample_id")
    for name, scores in expected.items():
        assert table.loc[name, list(scores)].to_dict() == pytest.approx(scores, abs=1e-6, rel=0)
    for metric in metrics:
        mean = np.mean([scores[metric] for scores in expected.values()])
        assert result["metrics"][metric]["mean"] == pytest.approx(mean, abs=1e-6, rel=0)
