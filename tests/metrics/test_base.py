from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
import torch.distributed as dist

from mgie_lit.metrics.base import SampleMetric
from mgie_lit.metrics.pixel import L1, PSNR, SSIM
from mgie_lit.metrics.text import ExpressiveExact

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Given(SampleMetric):
    """Scores are handed in."""

    name: ClassVar[str] = "given"
    higher_is_better = True
    needs: ClassVar[tuple[str, ...]] = ("preds",)

    def score(self, preds: Tensor) -> Tensor:
        return preds


def images(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, 12, 14, generator=generator), torch.rand(count, 3, 12, 14, generator=generator)


@pytest.mark.parametrize("kind", [L1, PSNR, SSIM])
def test_merged_batches_equal_all_at_once(kind: type[SampleMetric]) -> None:
    preds, target = images(7)
    at_once, merged = kind(), kind()
    at_once.update(preds, target)
    for part in (slice(0, 1), slice(1, 3), slice(3, 7)):
        merged.update(preds[part], target[part])
    assert merged.compute().item() == pytest.approx(at_once.compute().item(), rel=1e-12)
    assert at_once.compute().item() == pytest.approx(at_once.score(preds, target).double().mean().item(), rel=1e-12)


def test_forward_gives_the_batch_and_compute_the_whole() -> None:
    metric = Given()
    assert metric(torch.tensor([1.0, 3.0])).item() == 2.0
    assert metric(torch.tensor([8.0])).item() == 8.0
    assert metric.compute().item() == 4.0


def test_mean_of_many_small_updates_is_exact() -> None:
    metric = Given()
    for _ in range(1000):
        metric.update(torch.full((1,), 0.1))
    assert metric.compute().item() == pytest.approx(float(torch.tensor(0.1)), rel=1e-13)


def test_scores_that_do_not_apply_are_left_out() -> None:
    metric = Given()
    metric.update(torch.tensor([1.0, torch.nan, 2.0]))
    assert metric.compute().item() == 1.5
    assert metric.count.item() == 2


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_empty_state_is_an_error() -> None:
    with pytest.raises(ValueError, match="given: expected at least one scored sample, got none; call update before"):
        Given().compute()


def test_reset_forgets_and_nothing_but_nan_is_empty() -> None:
    metric = Given()
    metric.update(torch.tensor([1.0]))
    metric.reset()
    metric.update(torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="expected at least one scored sample"):
        metric.compute()


def test_unknown_needs_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(ValueError, match=r"Wrong.needs: expected names out of sample_ids, .*, got \['prediction'\]"):
        type("Wrong", (Given,), {"needs": ("prediction", "target")})


def test_image_metrics_are_told_from_text_metrics() -> None:
    assert L1().scores_images
    assert not ExpressiveExact().scores_images


def test_describe_names_the_class_and_its_direction() -> None:
    assert L1().describe() == {"class": "mgie_lit.metrics.pixel.L1", "higher_is_better": False}
    assert SSIM().describe()["window"] == 11
    assert PSNR().describe()["ceiling_db"] == 100.0


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    preds, target = images(7)
    share = slice(0, 2) if rank == 0 else slice(2, 7)
    metric = SSIM()
    metric.update(preds[share], target[share])
    torch.save(metric.compute(), f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    metric = SSIM()
    metric.update(*images(7))
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(rank, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    for rank in range(2):
        assert torch.load(tmp_path / f"rank-{rank}.pt").item() == pytest.approx(metric.compute().item(), rel=1e-12)
