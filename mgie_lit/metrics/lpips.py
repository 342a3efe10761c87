"""Learned perceptual distance of the edited image and the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mgie_lit.functional.perceptual import lpips_distance
from mgie_lit.metrics.backbones import SMALLEST_SIDE, load_backbone, load_heads
from mgie_lit.metrics.base import SampleMetric
from mgie_lit.metrics.encoder_files import hash_weights

if TYPE_CHECKING:
    from pathlib import Path


class LPIPS(SampleMetric):
    """LPIPS 0.1 (arXiv:1801.03924) at the target's size; 0 = equal. Does not apply to images too small for the network.

    Args:
        source: Weights of the backbone: a file, or a folder with one; see :func:`load_backbone`.
        net: ``alex`` or ``vgg``.
        device: Where the backbone runs; None = the GPU where there is one.
    """

    name: ClassVar[str] = "lpips"
    higher_is_better = False

    def __init__(self, source: str | Path | None = None, *, net: str = "alex", device: str | None = "cpu") -> None:
        super().__init__()
        self.source = source
        self.net = net
        self.run_on = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def score(self, preds: Tensor, target: Tensor) -> Tensor:
        """Two ``(B, 3, H, W)`` in [0, 1] -> ``(B,)``; NaN where a side is too small."""
        backbone = load_backbone(self.net, self._source).to(self.run_on)
        if min(preds.shape[-2:]) < SMALLEST_SIDE[self.net]:
            return torch.full((len(preds),), torch.nan)
        heads = [head.to(self.run_on) for head in load_heads(self.net)]
        pairs = zip(
            preds.unsqueeze(1), target.unsqueeze(1), strict=True
        )  # one by one: the layers of large images are large
        with torch.no_grad():
            scores = [
                lpips_distance(backbone(one.to(self.run_on)), backbone(other.to(self.run_on)), heads)
                for one, other in pairs
            ]
        return torch.cat(scores).cpu()

    def describe(self) -> dict[str, object]:
        """Adds the network, its weights and its size limit; loads it."""
        backbone = load_backbone(self.net, self._source)
        return super().describe() | {
            "version": "0.1",
            "net": self.net,
            "source": self._source,
            "weights_sha256": hash_weights(backbone),
            "resize": "none: at the target's size",
            "smallest_side": SMALLEST_SIDE[self.net],
        }

    @property
    def _source(self) -> str | None:
        return None if self.source is None else str(self.source)
