from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from mgie_lit.cli.edit_batch import edit_rows, read_rows
from mgie_lit.cli.main import main
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import tiny_editor

pytestmark = pytest.mark.faults


class FakeModel:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def edit_all(self, images: list[Image.Image], instructions: list[str]) -> list[tuple[Image.Image, str]]:
        self.batches.append(instructions)
        if "fail" in instructions:
            raise RuntimeError("no idea how")
        return [(image, f"it is {instruction}") for image, instruction in zip(images, instructions, strict=True)]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path / "metadata.jsonl"


def write(path: Path, *rows: object) -> None:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")


def row(name: str, instruction: str = "x", **more: object) -> dict[str, object]:
    return {"source_file_name": name, "instruction": instruction, **more}


def test_rows_are_read(batch: Path) -> None:
    write(batch, row("a.png", "größer"), "", row("a.png", id="second"), row("b.png", id=7, target_file_name="c.png"))
    rows = read_rows(batch)
    assert [(one.line, one.source.name, one.row_id) for one in rows] == [
        (1, "a.png", "a"),
        (3, "a.png", "second"),
        (4, "b.png", "7"),
    ]
    assert rows[0].instruction == "größer"
    assert rows[0].source == batch.parent / "a.png"


def test_all_faulty_lines_are_named(batch: Path) -> None:
    write(
        batch,
        row("a.png"),
        '{"source_file_name": ',
        "[1]",
        {"source_file_name": "a.png"},
        row("", id="x"),
        row("b.png", id="../b"),
        row("b.png", id=""),
        row("b.png", id="a"),
        row("b.png", id="A"),
    )
    with pytest.raises(DataError) as caught:
        read_rows(batch)
    faults = [line.removeprefix(f"{batch}, ") for line in str(caught.value).splitlines()]
    assert faults == [
        "line 2: expected a JSON object, cannot read it: Expecting value at column 22",
        "line 3: expected a JSON object, got a list",
        "line 4: expected a text under instruction, got None",
        "line 5: expected a text under source_file_name, got ''",
        "line 6: expected an `id` that is safe as a file name, got '../b'",
        "line 7: expected an `id` that is safe as a file name, got ''",
        "lines 1 and 8: both have the id a; give each its own `id`",
        "lines 1 and 9: both have the id A; give each its own `id`",
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nothing\.jsonl: No such file or directory"):
        read_rows(tmp_path / "nothing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"cannot read .*binary\.jsonl: not UTF-8 text"):
        read_rows(tmp_path / "binary.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"expected rows with source_file_name .*empty\.jsonl has none"):
        read_rows(tmp_path / "empty.jsonl")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_failed_rows_do_not_stop_the_others(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], batch_size: int
) -> None:
    write(batch, row("a.png", "fail"), row("missing.png"), row("b.png", "good"))
    out = tmp_path / "out"
    assert edit_rows(read_rows(batch), out, FakeModel(), batch_size=batch_size) == 2  # type: ignore[arg-type]
    assert [path.name for path in out.iterdir()] == ["b.png"]
    printed = capsys.readouterr()
    assert printed.out == "b: it is good\n"
    assert printed.err.startswith("2 of 3 rows failed:\nline 1 (a): no idea how\nline 2 (missing): ")


def test_rows_are_edited_together_and_alone_only_where_one_failed(batch: Path, tmp_path: Path) -> None:
    words = ["0", "1", "fail", "3", "4"]
    write(batch, *(row("a.png", word, id=index) for index, word in enumerate(words)))
    model = FakeModel()
    assert edit_rows(read_rows(batch), tmp_path / "out", model, batch_size=2) == 1  # type: ignore[arg-type]
    assert model.batches == [["0", "1"], ["fail", "3"], ["fail"], ["3"], ["4"]]
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["0", "1", "3", "4"]


def test_output_made_meanwhile_is_kept(batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(batch, row("a.png"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_text("precious")
    assert edit_rows(read_rows(batch), out, FakeModel()) == 1  # type: ignore[arg-type]
    assert (out / "a.png").read_text() == "precious"
    assert "exists by now" in capsys.readouterr().err


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.cli.edit_model.load_edit_model", lambda *_, **__: FakeModel())


@pytest.mark.usefixtures("model")
def test_command_writes_all_and_prints_the_folder(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(batch, row("a.png"), row("b.png"))
    out = tmp_path / "out"
    main(["edit", "--batch", str(batch), "--out-dir", str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    assert capsys.readouterr().out.splitlines()[-1] == str(out)


@pytest.mark.usefixtures("model")
def test_command_exits_with_1_after_failed_rows(batch: Path, tmp_path: Path) -> None:
    write(batch, row("a.png", "fail"), row("b.png"))
    with pytest.raises(SystemExit, match="1"):
        main(["edit", "--batch", str(batch), "--out-dir", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


@pytest.mark.usefixtures("model")
def test_command_refuses_existing_outputs_before_editing(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(batch, row("a.png"), row("b.png"))
    with pytest.raises(SystemExit, match="2"):
        main(["edit", "--batch", str(batch), "--out-dir", str(tmp_path)])
    assert "--out-dir: expected a new file, but " in capsys.readouterr().err


def test_error_type_of_outputs() -> None:
    from mgie_lit.cli.image_output import check_output

    with pytest.raises(ConfigError, match=r"expected a name that ends in \.png"):
        check_output(Path("a.xyz"))


@pytest.fixture
def real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = MGIEPipeline.from_editor(tiny_editor("patch"), SamplingOptions(resolution=16, num_inference_steps=1))
    monkeypatch.setattr("mgie_lit.config.build.load_pipeline", lambda _: pipeline)


@pytest.mark.parametrize("codec", ["kl", "patch"])
def test_a_row_does_not_depend_on_its_batch(
    codec: Literal["kl", "patch"], batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding may move a value by one; the noise is that of the seed, whoever is beside it."""
    options = SamplingOptions(resolution=16, num_inference_steps=2)
    pipeline = MGIEPipeline.from_editor(tiny_editor(codec), options)
    monkeypatch.setattr("mgie_lit.config.build.load_pipeline", lambda _: pipeline)
    for index in range(3):
        random_image(16, 16, seed=index).save(tmp_path / f"{index}.png")
    write(batch, *(row(f"{index}.png", "warmer " * (index + 1)) for index in range(3)))
    edits = {}
    for size in (None, 1, 2):
        out = tmp_path / f"by {size}"
        option = [] if size is None else ["--batch-size", str(size)]
        main(["edit", "--batch", str(batch), "--out-dir", str(out), "--device", "cpu", *option])
        edits[size] = [np.asarray(Image.open(out / f"{index}.png"), dtype=int) for index in range(3)]
    for size in (None, 2):
        for together, alone in zip(edits[size], edits[1], strict=True):
            assert np.abs(together - alone).max() <= 1


@pytest.mark.usefixtures("real_model")
def test_an_instruction_that_is_too_long(batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One image: a mistake of the user. One row of several: the others are made."""
    message = "instruction: expected at most 96 tokens with image and visual tokens, got "
    with pytest.raises(SystemExit, match="2"):
        main(["edit", str(tmp_path / "a.png"), "warmer " * 90, "-o", str(tmp_path / "new.png"), "--device", "cpu"])
    assert capsys.readouterr().err.startswith(f"mgie edit: error: {message}")
    write(batch, row("a.png", "warmer " * 90), row("b.png", "warmer"))
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="1"):
        main(["edit", "--batch", str(batch), "--out-dir", str(out), "--device", "cpu"])
    assert [path.name for path in out.iterdir()] == ["b.png"]
    assert f"line 1 (a): {message}" in capsys.readouterr().err


@pytest.mark.usefixtures("real_model")
def test_more_steps_than_the_model_has(batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.png"
    with pytest.raises(SystemExit, match="2"):
        main(["edit", str(batch.parent / "a.png"), "warmer", "-o", str(new), "--steps", "51", "--device", "cpu"])
    assert capsys.readouterr().err.startswith("mgie edit: error: num_inference_steps: expected at most 50")
    assert not new.exists()
