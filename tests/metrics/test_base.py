from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
import torch.distributed as dist

from mgie_lit.metrics.base import SampleMetric
from mgie_lit.metrics.pixel import L1, L2, PSNR, SSIM
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


def _share(metric: SampleMetric, rank: int, count: int) -> SampleMetric:
    """Update with one process's samples, in batches of an odd size."""
    preds, target = images(11)
    for index in range(rank, 11, count):
        metric.update(preds[index : index + 1], target[index : index + 1])
    return metric


def _worker(rank: int, count: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    values = {kind.name: _share(kind(), rank, count).compute() for kind in PIXEL}
    torch.save(values, f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()


PIXEL = (L1, L2, PSNR, SSIM)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_processes_equal_one_to_the_last_bit(tmp_path: Path, count: int) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(rank, count, str(tmp_path))) for rank in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    for kind in PIXEL:
        metric = kind()
        metric.update(*images(11))
        for rank in range(count):
            assert torch.load(tmp_path / f"rank-{rank}.pt")[kind.name].item() == metric.compute().item()


@pytest.mark.parametrize("kind", PIXEL)
def test_order_and_batches_do_not_change_the_last_bit(kind: type[SampleMetric]) -> None:
    preds, target = images(11)
    at_once, reversed_ = kind(), kind()
    at_once.update(preds, target)
    for index in reversed(range(11)):
        reversed_.update(preds[index : index + 1], target[index : index + 1])
    assert reversed_.compute().item() == at_once.compute().item()


def test_negative_and_large_scores_add_up() -> None:
    metric = Given()
    metric.update(torch.tensor([-0.25, 100.0, 1e-9, -3.5], dtype=torch.float64))
    assert metric.compute().item() == pytest.approx((96.25 + 1e-9) / 4, rel=1e-15)
