from __future__ import annotations

import json
import sys
from pathlib import Path

import edit as benchmark
import pytest
import torch
from edit_sides import sides
from edit_sides.parts import Parts
from edit_sides.table import render_page


@pytest.fixture(scope="module")
def edit() -> sides.EditCase:
    torch.set_num_threads(1)
    return sides.make_edit_case("tiny")


def test_both_sides_and_every_switch_give_the_same_condition(edit: sides.EditCase) -> None:
    assert benchmark.check_equal(edit) < benchmark.TOLERANCE
    head = edit.guide.mllm.language_model.lm_head
    assert not isinstance(head, sides.Dictated), "the head of scores is put back"


def test_a_switch_that_changes_the_condition_is_seen(edit: sides.EditCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sides.SwitchedEdit, "_vision", lambda self, pixels: super(type(self), self)._vision(0.9 * pixels)
    )
    with pytest.raises(SystemExit, match="conditions differ by"):
        benchmark.check_equal(edit)


def test_both_sides_give_the_same_image(edit: sides.EditCase) -> None:
    ours, plain = sides.our_edit(edit, sides.our_options(edit, 3)), sides.plain_edit(edit, 3)
    assert sides.levels_apart(ours, plain) <= benchmark.LEVELS
    assert sides.levels_apart(ours, edit.image) > 10


def test_the_plain_edit_makes_no_copy_of_the_weights(edit: sides.EditCase) -> None:
    alone = sides.EditCase(edit.case, edit.image, edit.prompt, edit.words, edit.latents)
    sides.plain_edit(alone, 1)
    assert "editor" not in alone.__dict__


def test_dictation_is_what_is_written(edit: sides.EditCase) -> None:
    with sides.dictated(edit.case.editor, edit.words):
        pixels = edit.guide.pixels([edit.image])
        assert pixels is not None
        assert sides.Yardstick(edit.case.editor).write(edit.prompt, pixels).ids == edit.prompt + edit.words


def test_measurement_has_what_its_readers_expect(
    edit: sides.EditCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "make_edit_case", lambda _: edit)
    monkeypatch.setattr(benchmark, "peak_bytes", lambda *_: 2**20)
    monkeypatch.setattr(benchmark, "SETTINGS", {"plain": [], "fast": ["sampling.preset=fast"]})
    files = {"--json": tmp_path / "new" / "a.json", "--markdown": tmp_path / "new" / "a.md"}
    outputs = [text for option, path in files.items() for text in (option, str(path))]
    monkeypatch.setattr(sys, "argv", ["edit.py", "--size", "tiny", "--rounds", "1", "--examples", "2", *outputs])
    monkeypatch.setattr(benchmark, "MANY_STEPS", 12)
    benchmark.main()
    result = json.loads(files["--json"].read_text())
    assert [row["name"] for row in result["rows"]] == list(benchmark.GOALS)
    assert [row["name"] for row in result["switches"]] == list(sides.SWITCHES)
    assert all(set(row["ratio"]) == {"median", "p10", "p90"} for row in result["rows"])
    for row in result["rows"]:
        assert row["ratio"]["median"] == pytest.approx(row["cpu_s"]["ours"] / row["cpu_s"]["yardstick"], rel=0.05)
    assert [row["steps"] for row in result["shipped"]] == [4, 1]
    assert result["closeness"][benchmark.FAST]["ssim"] < 1
    page = files["--markdown"].read_text()
    assert "`OMP_NUM_THREADS=1 python benchmarks/edit.py --size tiny --rounds 1 --examples 2`" in page
    assert "| fast | 1 |" in page
    assert page.startswith("# An edit beside the released code's")
    assert capsys.readouterr().out.strip() in page
    assert page.strip() == render_page(result, page.split("`")[1]).strip()


def test_parts_add_up_to_the_plain_edit(edit: sides.EditCase) -> None:
    parts = Parts(edit)
    seconds = dict.fromkeys(parts.calls, 1.0) | {"prompt": 2.0, "with words": 12.0, "with all": 28.0}
    assert parts.seconds(seconds, 10) == {
        "prompt": 2.0,
        "words": 10.0,
        "visual tokens": 16.0,
        "edit head": 1.0,
        "source to latents": 1.0,
        "UNet": 10.0,
        "latents to image": 1.0,
    }
    text, whole = parts.bounds(seconds, 10)
    visual = 16.0 / len(edit.guide.prompt.visual_ids)
    assert text == pytest.approx((2.0 - 1.0 + 10.0 + visual + 1.0) / 29.0)
    assert whole == pytest.approx((2.0 - 1.0 + 10.0 + visual + 1.0 + 12.0) / 41.0)
