from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import gpu as benchmark
import pytest
import torch
from gpu_parts.clock import Clock, fitting
from gpu_parts.table import NO_MEASUREMENT, STAGES, render, render_page
from shared.measures import YARDSTICK
from step_sides.case import Case, case_config
from step_sides.sides import OURS, OURS_CACHED, SWITCHES, Step, our_step

from mgie_lit.editor import Editor
from mgie_lit.training.compute import Compute

CPU = torch.device("cpu")
CLOCK = Clock(CPU, 1)


@pytest.fixture(scope="module")
def editor() -> Editor:
    torch.set_num_threads(1)
    return benchmark.make_editor(case_config("tiny"), CPU)


def test_frozen_matrices_are_lowered_and_what_trains_is_not(editor: Editor) -> None:
    assert {parameter.dtype for parameter in editor.parameters() if parameter.requires_grad} == {torch.float32}
    frozen = [p for p in editor.parameters() if not p.requires_grad]
    lowered = sum(p.numel() for p in frozen if p.dtype == torch.bfloat16)
    assert lowered > 0.9 * sum(p.numel() for p in frozen)


def test_batches_grow_until_one_does_not_fit(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(clock: Clock, case: Case, losses: Step) -> dict[str, float]:
        if len(case.batch) > 2:
            raise torch.cuda.OutOfMemoryError
        return {"seconds": 2.0}

    monkeypatch.setattr(benchmark, "measure_step", step)
    rows = benchmark.measure_training(CLOCK, editor, case_config("tiny"), rate=1e9, sizes=(1, 2, 4, 8))
    assert [(row["batch_size"], row["name"]) for row in rows] == [
        (n, name) for n in (1, 2) for name in (OURS, OURS_CACHED)
    ]
    assert rows[2]["share"] == pytest.approx(rows[2]["operations"] / 2.0 / 1e9)
    assert rows[2]["operations"] == pytest.approx(2 * rows[0]["operations"], rel=0.2)
    assert rows[1]["operations"] < rows[0]["operations"]


def test_other_errors_than_of_memory_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        fitting(CLOCK, lambda: torch.ones(2, 3) @ torch.ones(2, 3))


def test_a_way_to_compute_is_undone(editor: Editor) -> None:
    case = benchmark.make_batch(editor, case_config("tiny"), 1)
    kinds = [type(part) for part in editor.modules()]
    plain = benchmark.count_operations(case)
    for compute in (Compute(checkpoint_language_model=True), Compute(checkpoint_unet=True)):
        with benchmark.computed(editor, compute):
            assert benchmark.count_operations(case) > plain, "layers are computed again"
        assert benchmark.count_operations(case) == plain
    assert [type(part) for part in editor.modules()] == kinds
    with benchmark.computed(editor, Compute(compile_unet="eager")):
        assert editor.unet.mid_block._compiled_call_impl is not None
    assert editor.unet.mid_block._compiled_call_impl is None
    assert torch.isfinite(benchmark.in_bfloat16(case, our_step(case))())


def test_trial_on_the_cpu_has_everything_and_says_that_it_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"--json": tmp_path / "new" / "a.json", "--markdown": tmp_path / "new" / "a.md"}
    outputs = [text for option, path in files.items() for text in (option, str(path))]
    few = ["--repeats", "1", "--batch-sizes", "1", "--batch-size", "2", "--side", "64", "--compile", "eager"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--size", "tiny", *few, *outputs])
    benchmark.main()
    result = json.loads(files["--json"].read_text())
    assert [row["batch_size"] for row in result["training"]] == [1, 1]
    sides = {side: [row["name"] for row in result["switches"] if row["side"] == side] for side in ("ours", YARDSTICK)}
    assert sides[YARDSTICK] == [YARDSTICK, *SWITCHES]
    assert sides["ours"][0] == OURS
    assert sides["ours"][-1] == ("caches, compute.compile_language_model=eager compute.compile_unet=eager")
    assert all(row["step"]["share"] > 0 for row in result["switches"] if row["side"] == "ours")
    assert all(row["step"]["seconds"] > 0 for row in result["switches"])
    assert [(row["name"], row["instruction"]) for row in result["edit"]] == [
        ("plain", "first"),
        ("fast", "first"),
        ("plain", "further"),
        ("fast", "further"),
    ]
    page = files["--markdown"].read_text()
    assert NO_MEASUREMENT in page
    assert "`python benchmarks/gpu.py --device cpu --size tiny --repeats 1" in page
    assert capsys.readouterr().out.strip() == render(result | {"matrix_rates": {256: result["matrix_rates"]["256"]}})
    assert result["measured"] == list(STAGES)
    assert "ended early" not in page
    early = render(
        {name: part for name, part in result.items() if name not in ("switches", "edit")} | {"measured": ["training"]}
    )
    assert "Not measured: what our switches give; an edit; the released code's step" in early
    card = {"type": "cuda", "name": "A card", "bytes": 80 * 2**30, "cuda": "13.0"}
    none_fits = [row | {"step": None} for row in result["switches"]]
    page = render_page(result | {"device": card, "switches": none_fits, "training": []})
    assert NO_MEASUREMENT not in page
    assert "A card, 80 GiB, CUDA 13.0" in page
    assert page.count("does not fit") == len(none_fits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"--device cuda: expected a GPU that CUDA finds, got none \(torch .*\); run this on a\s+machine with one"),
        (["--device", "cpu"], "--device cpu: expected --size tiny, .* got --size llava_7b"),
    ],
)
def test_without_a_gpu_it_says_what_is_expected(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
