"""The mix of edits and their balanced order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mgie_lit.data.photo_edits.operations import GLOBAL_OPERATIONS
from mgie_lit.data.photo_edits.plan import EditMix
from mgie_lit.errors import ConfigError


def test_draws_follow_the_weights() -> None:
    mix = EditMix.create({"global": 3.0, "tone": 0.0, "scene": 1}, None)
    rng = np.random.default_rng(0)
    tasks = [mix.draw(rng) for _ in range(8000)]
    families = Counter(task.family for task in tasks)
    assert set(families) == {"global", "scene"}
    assert families["global"] / len(tasks) == pytest.approx(0.75, abs=0.02)
    assert {task.operation for task in tasks if task.family == "global"} == set(GLOBAL_OPERATIONS)
    assert {(task.wording, task.turn) for task in tasks} == {("seen", None)}


@pytest.mark.parametrize("num_photographs", [1, 3, 4, 5, 10])
def test_schedule_is_balanced(num_photographs: int) -> None:
    mix = EditMix.create({"global": 1.0}, None)
    tasks = mix.schedule(10 * num_photographs * 10, num_photographs)
    cells = Counter((task.operation, int(str(task.turn)) % num_photographs, task.wording) for task in tasks)
    assert len(cells) == 10 * num_photographs * 2
    assert {count for (_, _, wording), count in cells.items() if wording == "new"} == {2}
    assert {count for (_, _, wording), count in cells.items() if wording == "seen"} == {8}


def test_a_longer_schedule_begins_alike() -> None:
    mix = EditMix.create({"global": 1.0, "scene": 0.5, "tone": 0.25}, None)
    assert mix.schedule(300, 4)[:120] == mix.schedule(120, 4)


def test_schedule_follows_the_weights() -> None:
    mix = EditMix.create({"global": 2.0, "scene": 1.0, "tone": 1.0}, None)
    assert Counter(task.family for task in mix.schedule(400, 4)) == {"global": 200, "scene": 100, "tone": 100}


def test_operations_restrict() -> None:
    mix = EditMix.create({"global": 1.0, "scene": 1.0}, ["remove", "darker", "brighter"])
    assert mix.operations == {"global": ("brighter", "darker"), "scene": ("remove",)}


@pytest.mark.parametrize(
    ("families", "operations", "message"),
    [
        ({"golbal": 1.0}, None, r"families: unknown \['golbal'\]; expected names out of \['global', 'detail', 'tone'"),
        ({"global": -1.0}, None, r"families\.global: expected a number of at least 0, got -1\.0"),
        ({"global": float("nan")}, None, r"families\.global: expected a number of at least 0, got nan"),
        ({"global": "much"}, None, r"families\.global: expected a number of at least 0, got 'much'"),
        ({"global": 0.0}, None, r"families: expected a weight above 0"),
        ({}, None, r"families: expected a weight above 0"),
        ({"global": 1.0}, ["bright"], r"operations: unknown \['bright'\]; expected names out of \['brighter'"),
        ({"global": 1.0}, ["remove"], r"operations: none of \['remove'\] belongs to the family 'global'"),
        ({"global": 1.0}, ["darker", "remove"], r"operations: \['remove'\] belong to no family with a weight above 0"),
        ({"global": 1.0}, [], r"operations: none of \[\] belongs to the family 'global'"),
    ],
)
def test_faults(families: dict[str, float], operations: list[str] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EditMix.create(families, operations)
