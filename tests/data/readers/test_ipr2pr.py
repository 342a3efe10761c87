"""The three layouts of IPr2Pr."""

from __future__ import annotations

import copyreg
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mgie_lit.data.readers import ipr2pr
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.errors import DataError
from mgie_lit.testing.datasets import write_ipr2pr, write_ipr2pr_columns, write_ipr2pr_packed

SPLITS = ("train", "val", "test")


def ids(dataset: IPr2Pr) -> list[str]:
    return [dataset.sample_id(index) for index in range(len(dataset))]


def test_a_pair_is_an_example(datasets_dir: Path) -> None:
    dataset = IPr2Pr("train", root=datasets_dir / "ipr2pr")
    assert ids(dataset)[:4] == ["0000132_1000003", "0000145_2000006", "0000145_2010013", "0000158_3000009"]
    example = dataset[2]
    assert example.instruction == "mirror the picture (1)"
    assert example.caption == "an edited disc, number 1"
    assert (example.session_id, example.mask, example.expressive_instruction) == ("0000145", None, None)
    row = dataset.row(2)
    assert (row.source, row.target) == ("0000145/2010013_0.jpg", "0000145/2010013_1.jpg")


def test_splits_are_by_position_of_the_prompt(tmp_path: Path) -> None:
    prompts = write_ipr2pr(tmp_path, num_prompts=21)
    names = [name for name, _ in prompts]
    # The owners: floor(0.9 * 21) = 18, floor(0.95 * 21) = 19
    expected = {"train": names[:18], "val": names[18:19], "test": names[19:]}
    for split in SPLITS:
        found = ids(IPr2Pr(split, root=tmp_path))
        assert found == [f"{name}_{seed}" for name, seeds in prompts if name in expected[split] for seed in seeds]


def test_order_of_seeds_json_counts(tmp_path: Path) -> None:
    prompts = write_ipr2pr(tmp_path, num_prompts=20)
    (tmp_path / "seeds.json").write_text(json.dumps(prompts[::-1]))
    assert ids(IPr2Pr("test", root=tmp_path)) == [f"{prompts[0][0]}_{seed}" for seed in prompts[0][1]]


@pytest.mark.parametrize("prompt_keys", ["caption", "input", "none"])
def test_what_prompt_json_may_hold(tmp_path: Path, prompt_keys: str) -> None:
    write_ipr2pr(tmp_path, num_prompts=20, prompt_keys=prompt_keys)
    example = IPr2Pr("train", root=tmp_path)[1]
    assert example.instruction == "mirror the picture (1)"
    assert example.caption == (None if prompt_keys == "none" else "an edited disc, number 1")


def test_folders_are_scanned_without_seeds_json(tmp_path: Path) -> None:
    write_ipr2pr(tmp_path / "with", num_prompts=22)
    write_ipr2pr(tmp_path / "without", num_prompts=22, has_seeds=False)
    (tmp_path / "without" / ".hidden").mkdir()
    for split in SPLITS:
        scanned = IPr2Pr(split, root=tmp_path / "without")
        assert ids(scanned) == ids(IPr2Pr(split, root=tmp_path / "with"))
        assert scanned[0].instruction == IPr2Pr(split, root=tmp_path / "with")[0].instruction


def test_a_handful_of_prompts_is_not_divided(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_ipr2pr(tmp_path, num_prompts=19)
    assert (
        ids(IPr2Pr("train", root=tmp_path)) == ids(IPr2Pr("val", root=tmp_path)) == ids(IPr2Pr("test", root=tmp_path))
    )
    assert "is not divided (or too small for it)" in caplog.text


def test_packed_files_give_the_same_examples(datasets_dir: Path) -> None:
    for split in SPLITS:
        folders = IPr2Pr(split, root=datasets_dir / "ipr2pr")
        packed = IPr2Pr(split, root=datasets_dir / "ipr2pr_packed")
        assert ids(packed) == ids(folders), "whatever the order in the pickle"
        example, same = packed[1], folders[1]
        assert (example.instruction, example.session_id) == (same.instruction, same.session_id)
        assert example.source.tobytes() == same.source.tobytes()
        assert example.target.tobytes() == same.target.tobytes()  # type: ignore[union-attr]
        assert packed.missing_expressive()[0] == 0
    assert IPr2Pr("train", root=datasets_dir / "ipr2pr_packed")[1].expressive_instruction == (
        "The picture is mirrored from left to right."
    )


def test_expressive_instructions_of_the_reference_fit_the_folders(datasets_dir: Path) -> None:
    file = datasets_dir / "ipr2pr_packed" / "ipr2pr_expressive.json"
    dataset = IPr2Pr("val", root=datasets_dir / "ipr2pr", expressive=str(file))
    assert dataset.missing_expressive() == (0, [])
    assert dataset[0].expressive_instruction == "The colors of the picture are all turned into their opposites."


def test_packed_files_without_expressive_instructions(tmp_path: Path) -> None:
    written = write_ipr2pr_packed(tmp_path, num_prompts=3, has_expressive=False)
    dataset = IPr2Pr("train", root=tmp_path)
    assert ids(dataset) == sorted(written)
    assert dataset.missing_expressive()[0] == len(written)


def test_columns(datasets_dir: Path, index_dir: Path) -> None:
    sets = {split: IPr2Pr(split, root=datasets_dir / "ipr2pr_columns", index_dir=index_dir) for split in SPLITS}
    assert {split: len(data) for split, data in sets.items()} == {"train": 36, "val": 2, "test": 2}
    assert ids(sets["val"]) == ["hf-0000036", "hf-0000037"]
    example = pickle.loads(pickle.dumps(sets["test"]))[1]
    assert example.instruction == "make it black and white (39)"
    assert example.caption == "an edited disc, number 39"
    assert example.source.tobytes() != example.target.tobytes()


def test_columns_of_small_subsets(tmp_path: Path, index_dir: Path) -> None:
    write_ipr2pr_columns(tmp_path / "data", num_prompts=4, is_subset=True)
    example = IPr2Pr("train", root=tmp_path / "data", index_dir=index_dir)[3]
    assert (example.instruction, example.caption) == ("make it black and white (3)", None)


@pytest.mark.faults
def test_columns_without_the_published_split(tmp_path: Path, index_dir: Path) -> None:
    write_ipr2pr_columns(tmp_path, num_prompts=2)
    for number, file in enumerate(sorted((tmp_path / "data").iterdir())):
        file.rename(file.with_name(f"test-{number:05d}-of-00002.parquet"))
    with pytest.raises(DataError, match=r"data\.root: expected the split train in .*, got test only; download the"):
        IPr2Pr("train", root=tmp_path, index_dir=index_dir)


@pytest.mark.parametrize("layout", ["folders", "scanned", "packed", "columns"])
def test_a_large_set_is_indexed_with_the_same_result(
    layout: str, tmp_path: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    if layout in {"folders", "scanned"}:
        write_ipr2pr(root, num_prompts=40, has_seeds=layout == "folders")
    else:
        {"packed": write_ipr2pr_packed, "columns": write_ipr2pr_columns}[layout](root, num_prompts=40)
    small = {split: IPr2Pr(split, root=root, index_dir=index_dir) for split in SPLITS}
    assert not list(index_dir.rglob("ipr2pr-*.arrow"))
    for name, value in {"STORED_FROM": 1, "STORED_FROM_BYTES": 1, "PART_PROMPTS": 7}.items():
        monkeypatch.setattr(ipr2pr, name, value)
    for split, same in small.items():
        dataset = IPr2Pr(split, root=root, index_dir=index_dir)
        assert ids(dataset) == ids(same)
        assert [dataset.row(index) for index in range(len(dataset))] == [same.row(index) for index in range(len(same))]
        assert dataset[0].source.tobytes() == same[0].source.tobytes()
    assert len(list(index_dir.rglob("ipr2pr-*.arrow"))) == 1


def test_expressive_instructions_are_mapped_beside_a_stored_index(
    tmp_path: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipr2pr, "STORED_FROM_BYTES", 1)
    write_ipr2pr(tmp_path / "data", num_prompts=20)
    words = tmp_path / "words.jsonl"
    opened = [IPr2Pr(split, root=tmp_path / "data", index_dir=index_dir) for split in SPLITS]
    for text in ("first", "second"):
        lines = [json.dumps({"id": name, "expressive_instruction": text}) for data in opened for name in ids(data)]
        words.write_text("\n".join(lines))
        for _ in range(2):
            dataset = IPr2Pr("val", root=tmp_path / "data", index_dir=index_dir, expressive=str(words))
            assert dataset[0].expressive_instruction == text
            assert pickle.loads(pickle.dumps(dataset))[0].expressive_instruction == text
    assert len(list(index_dir.rglob("*.expressive-*.arrow"))) == 2


def test_changed_seeds_are_indexed_again(
    tmp_path: Path, index_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ipr2pr, "STORED_FROM_BYTES", 1)
    prompts = write_ipr2pr(tmp_path / "data", num_prompts=20)
    before = len(IPr2Pr("train", root=tmp_path / "data", index_dir=index_dir))
    (tmp_path / "data" / "seeds.json").write_text(json.dumps([[name, seeds[:1]] for name, seeds in prompts]))
    assert len(IPr2Pr("train", root=tmp_path / "data", index_dir=index_dir)) == 18 < before
    assert "the annotations of ipr2pr have changed" in caplog.text


def test_index_goes_beside_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(ipr2pr, "STORED_FROM", 1)
    write_ipr2pr(tmp_path, num_prompts=20, has_seeds=False)
    for _ in range(2):  # the folder of the index is none of the prompts
        assert len(IPr2Pr("val", root=tmp_path)) == 3
    assert len(list((tmp_path / ".mgie_lit").glob("*.arrow"))) == 1
    assert caplog.text.count("index of ipr2pr written to") == 1


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.faults
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_ipr2pr_packed(tmp_path, num_prompts=2)
    for content in (Malicious(), {"task": [Malicious()]}, {"task": [[{"input": Path("a")}]]}, print, eval):
        (tmp_path / "ipr2pr.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(
            DataError, match=r"ipr2pr\.pkl: expected a pickle of lists, .*it wants to load \w+\.\w+\); it was"
        ):
            IPr2Pr("train", root=tmp_path)
    assert not (tmp_path / "pwned").exists()


def _nested() -> list[Any]:
    """A list of few bytes that would print as 2**60 letters."""
    value: list[Any] = ["a"]
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\x82\xf0(X\x0b\x00\x00\x00touch pwnedtR.", r"it has the instruction EXT1"),
        (b"(S'touch pwned'\nios\nsystem\n.", r"it has the instruction INST"),
        (b"(cos\nsystem\nS'touch pwned'\no.", r"it wants to load|it has the instruction OBJ"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.", r"it wants to load builtins\.set\.__init__"),
        (b"\x80\x02cbuiltins\nset\n}X\x01\x00\x00\x00aK\x01sb.", r"it has the instruction BUILD"),
        (b"Pname\n.", r"it has the instruction PERSID"),
        (b"\x80\x02X\x03\x00\x00\x00abcQ.", r"it has the instruction BINPERSID"),
        (b"\x80\x02]r\xff\xff\xff\x07.", r"it counts 134217727 values in 9 bytes"),
        (b"\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x01.", r"expected a pickle of lists"),
        (pickle.dumps({"task": [_nested()]}), r"row 0: expected `input`"),
    ],
)
def test_pickles_with_tricks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # An extension that the interpreter has loaded once is one that an unpickler is never asked about again.
    copyreg.add_extension("os", "system", 240)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
        write_ipr2pr_packed(tmp_path, num_prompts=2)
        (tmp_path / "ipr2pr.pkl").write_bytes(content)
        with pytest.raises(DataError, match=message):
            IPr2Pr("train", root=tmp_path)
    finally:
        copyreg.remove_extension("os", "system", 240)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    write_ipr2pr_packed(tmp_path, num_prompts=2)
    content = pickle.loads((tmp_path / "ipr2pr.pkl").read_bytes()) | {
        "extra": ({1, 2}, frozenset("a"), 1.5, 2**70, True, None, "ü")
    }
    (tmp_path / "ipr2pr.pkl").write_bytes(pickle.dumps(content, protocol))
    assert len(IPr2Pr("train", root=tmp_path)) == 3


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"ipr2pr\.pkl: expected a pickle of lists, dicts, texts and numbers, got something else"),
        (b"garbage", r"expected a pickle of lists"),
        (pickle.dumps([1]), r"expected \{'task': \[\[pair\], \.\.\.\]\}, got a list; is it the right file\?"),
        (pickle.dumps({"task": [[{"input": "a_1_0"}]]}), r"row 0: expected `input`, `instruction` and `lineidx`, got"),
        (pickle.dumps({"task": [3]}), r"row 0: expected `input`"),
    ],
)
def test_damaged_pickles(tmp_path: Path, content: bytes, message: str) -> None:
    write_ipr2pr_packed(tmp_path, num_prompts=2)
    (tmp_path / "ipr2pr.pkl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        IPr2Pr("train", root=tmp_path)


@pytest.mark.faults
def test_tsv_that_does_not_fit_its_pickle(tmp_path: Path) -> None:
    write_ipr2pr_packed(tmp_path, num_prompts=2)
    whole = (tmp_path / "ipr2pr.tsv").read_bytes()
    dataset = IPr2Pr("train", root=tmp_path)
    for content in (b"x" + whole, whole[:100], b""):
        (tmp_path / "ipr2pr.tsv").write_bytes(content)
        with pytest.raises(
            DataError, match=r"ipr2pr\.tsv, byte \d+: expected a line of two images in base64; ipr2pr\.tsv and"
        ):
            dataset[0]
    (tmp_path / "ipr2pr.tsv").write_bytes(whole.replace(b"/9j/", b"*9j/"))
    with pytest.raises(DataError, match=r"byte \d+: expected base64"):
        dataset[0]
    (tmp_path / "ipr2pr.tsv").unlink()
    with pytest.raises(DataError, match=r"ipr2pr\.tsv: expected the images of ipr2pr\.pkl, got nothing"):
        IPr2Pr("train", root=tmp_path)[0]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"seeds\.json, row 0: expected \[name, \[seed, \.\.\.\]\], got \{\}"),
        ('[["0000132", 1]]', r"seeds\.json, row 0: expected \[name"),
        (
            '[["0000132", [1000003]], ["0000132", [1000003]]]',
            r"unique ids, got '0000132_1000003' for example 0 and for example 1",
        ),
        ('[["none", [1]]]', r"none/prompt\.json: expected the words of this prompt, got nothing; copy or unpack it"),
    ],
)
def test_faulty_seeds(tmp_path: Path, content: str, message: str) -> None:
    write_ipr2pr(tmp_path, num_prompts=1)
    (tmp_path / "seeds.json").write_text(content)
    with pytest.raises(DataError, match=message):
        IPr2Pr("train", root=tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"edit": ""}', r"prompt\.json: expected a text under 'edit', got ''"),
        ("[]", r"prompt\.json: expected an object with `edit`, got a list; copy it again"),
    ],
)
def test_faulty_prompts(tmp_path: Path, content: str, message: str) -> None:
    ((name, _),) = write_ipr2pr(tmp_path, num_prompts=1)
    (tmp_path / name / "prompt.json").write_text(content)
    with pytest.raises(DataError, match=message):
        IPr2Pr("train", root=tmp_path)


@pytest.mark.faults
def test_missing_image_is_an_error_when_it_is_opened(tmp_path: Path) -> None:
    ((name, (seed,)),) = write_ipr2pr(tmp_path, num_prompts=1)
    (tmp_path / name / f"{seed}_1.jpg").unlink()
    dataset = IPr2Pr("train", root=tmp_path)
    with pytest.raises(
        DataError, match=rf"{name}_{seed} \({name}/prompt\.json\): .*{seed}_1\.jpg: expected an image file"
    ):
        dataset[0]


@pytest.mark.faults
def test_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "clip-filtered-dataset").mkdir()
    message = r"data\.root: no seeds\.json, folder with a prompt\.json, parquet file or ipr2pr\.pkl in .*#ipr2pr$"
    with pytest.raises(DataError, match=message):
        IPr2Pr("train", root=tmp_path)
    write_ipr2pr(tmp_path / "clip-filtered-dataset", num_prompts=1)
    with pytest.raises(DataError, match=r"\(did you mean .*/clip-filtered-dataset\?\)"):
        IPr2Pr("train", root=tmp_path)


def test_real_pairs(real_data: Path) -> None:
    dataset = IPr2Pr("train", root=real_data / "ipr2pr_raw")
    assert ids(dataset) == ["0000132_127380018", "0000132_1818564940", "0000145_1696064930", "0000145_2315401110"]
    examples = [dataset[index] for index in range(4)]
    assert {example.source.size for example in examples} == {(512, 512)}
    assert [example.instruction for example in examples[1:3]] == [
        "Make it look like a painting",
        "make the painting into a mosaic",
    ]
    assert all(example.source.tobytes() != example.target.tobytes() for example in examples)  # type: ignore[union-attr]


_BUILD = """
import sys
from pathlib import Path
from mgie_lit.data.readers import ipr2pr
from mgie_lit.data.readers.rows import Row

def rows(root, prompts):
    for name, seeds in prompts:
        for seed in seeds:
            words = f"make number {name} a painting by an old master"
            yield Row(f"{name}_{seed}", words, "", caption=f"an old painting of {name}, oil on canvas, signed")

ipr2pr.prompt_rows = rows
print(len(ipr2pr.IPr2Pr("train", root=Path(sys.argv[1]))))
"""

_OPEN = """
import sys, time
from pathlib import Path
from mgie_lit.data.readers.ipr2pr import IPr2Pr

def unique_mib():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

before, start = unique_mib(), time.perf_counter()
dataset = IPr2Pr("train", root=Path(sys.argv[1]))
seconds = time.perf_counter() - start
for index in range(0, len(dataset), 97):
    dataset.row(index)
print(len(dataset), seconds, unique_mib() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_three_hundred_thousand_prompts(tmp_path: Path) -> None:
    seeds = [[f"{index:07d}", [str(7919 * index + pair) for pair in range(1 + index % 4)]] for index in range(300_000)]
    (tmp_path / "seeds.json").write_text(json.dumps(seeds))
    expected = sum(len(numbers) for _, numbers in seeds[:270_000])

    def run(code: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert run(_BUILD) == [str(expected)]
    length, seconds, unique = map(float, run(_OPEN))
    assert length == expected
    assert seconds < 5
    assert unique < 300, "MiB, pages of the file that only this process has mapped included"
