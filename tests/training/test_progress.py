from __future__ import annotations

from mgie_lit.training.progress import recount_batches


def checkpoint(total: int, current: int) -> dict[str, object]:
    """Of a trainer that is ending its last batch."""
    counts = {
        name: {"ready": ready, "started": ready, "processed": ready, "completed": ready - 1}
        for name, ready in (("total", total), ("current", current))
    }
    return {"loops": {"fit_loop": {"epoch_loop.batch_progress": counts | {"is_last_batch": False}}}}


def test_the_same_place_in_batches_of_another_size() -> None:
    content = checkpoint(10, 4)
    recount_batches(content, before=4, after=8)
    assert content == checkpoint(5, 2)
    recount_batches(content, before=8, after=4)
    assert content == checkpoint(10, 4)
    recount_batches(content, before=4, after=4)
    assert content == checkpoint(10, 4)
