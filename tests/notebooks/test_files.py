"""What the notebooks' files look like: stripped, numbered, and with commands, links and imports that exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mgie_lit.checkpoints.conversion.combinations import OPTIONS, find_combination
from mgie_lit.cli import convert, doctor, edit, report
from mgie_lit.cli.prepare import STEPS
from mgie_lit.config.compose import compose_config
from mgie_lit.config.validate import validate_config

NAMES = ["01_quick_start", "02_one_batch", "03_your_own_data", "04_score_outputs", "05_published_weights"]
SHELL = "%%bash -e\n"  # a cell of commands; -e, so that a command that fails ends the notebook
SIZES_OF_ITS_OWN = {"size=miniature"}
ABSOLUTE = re.compile(r"""(?<![\w.:/<])(?:/(?:home|work|tmp|root|Users|usr|mnt|var|opt|data)/|[A-Z]:\\)""")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def cells(path: Path, kind: str) -> list[str]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def python_cells(path: Path) -> list[str]:
    return [source for source in cells(path, "code") if not source.startswith("%")]


def commands(path: Path) -> Iterator[list[str]]:
    """Every ``mgie ...`` of a notebook as words, from its cells and from code blocks in its text."""
    blocks = [source.removeprefix(SHELL) for source in cells(path, "code") if source.startswith(SHELL)]
    for text in cells(path, "markdown"):
        blocks += re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "mgie":
                ends = [index for index, word in enumerate(words) if word in {"|", "||", "&&", ";", ">", "2>&1"}]
                yield words[1 : ends[0] if ends else None]


def check_command(words: list[str]) -> None:
    """Parse a command as ``mgie`` does; a mistake is an error of ours or the parser's exit."""
    name, *arguments = words
    if "--config-dir" in arguments:  # a folder that the notebook makes
        assert SIZES_OF_ITS_OWN & set(arguments)
        place = arguments.index("--config-dir")
        arguments = [word for word in arguments[:place] + arguments[place + 2 :] if word not in SIZES_OF_ITS_OWN]
    if name in {"train", "eval"}:
        validate_config(compose_config(name, arguments), unused={"size"} if name == "eval" else set())
    elif name == "prepare":
        assert arguments[0] in STEPS
        compose_config("train" if arguments[0] == "cache" else "prepare", arguments[1:])
    elif name == "doctor":
        validate_config(compose_config("train", doctor._parser().parse_intermixed_args(arguments).overrides))
    elif name == "convert":
        parsed = convert._parser().parse_args(arguments)
        find_combination(parsed.source_kind, parsed.target, {option for option in OPTIONS if getattr(parsed, option)})
    elif name == "edit":
        parsed = edit._parser().parse_args(arguments)
        edit._check_combination(edit._parser(), parsed)
        edit._check_ranges(parsed)
    elif name == "report":
        report._parser().parse_args(arguments)
    else:
        raise AssertionError(f"expected a command of mgie, got {name}")


def test_all_are_found_and_numbered(folder: Path) -> None:
    assert [path.stem for path in sorted(folder.glob("*.ipynb"))] == NAMES


def test_the_list_names_all(folder: Path) -> None:
    listed = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == NAMES


def test_is_a_valid_notebook(notebook: Path) -> None:
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert (content.nbformat, content.nbformat_minor) == (4, 5)


def test_is_stripped(notebook: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    assert strip().stripped(text) == text, "run `make format`"


def test_begins_with_title_aim_and_time(notebook: Path) -> None:
    first = cells(notebook, "markdown")[0]
    assert first.startswith("# ")
    assert "**You will learn** " in first
    assert re.search(r"\*\*Time:\*\* .* on two CPU cores", first)
    headings = [text for text in cells(notebook, "markdown") if re.search(r"^## ", text, flags=re.MULTILINE)]
    assert len(headings) >= 4


def test_holds_no_logic(notebook: Path) -> None:
    """What needs a function, a class or a condition of its own belongs into the package, with a test."""
    for source in python_cells(notebook):
        kinds = {type(node) for node in ast.walk(ast.parse(source))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.While}, source


def test_names_no_place_of_one_machine(notebook: Path) -> None:
    assert ABSOLUTE.search(notebook.read_text(encoding="utf-8")) is None


def test_links_lead_somewhere(notebook: Path) -> None:
    for text in cells(notebook, "markdown"):
        for target in LINK.findall(text):
            assert (notebook.parent / target).exists(), target


def test_imports_exist(notebook: Path) -> None:
    imported = [node for source in python_cells(notebook) for node in ast.walk(ast.parse(source))]
    ours = [node for node in imported if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mgie_lit")]
    assert ours or not any(isinstance(node, ast.ImportFrom) for node in imported)
    for node in ours:
        module = importlib.import_module(str(node.module))
        assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_commands_can_be_parsed(notebook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for words in commands(notebook):
        check_command(words)


def test_cells_of_commands_stop_at_a_failure(notebook: Path) -> None:
    for source in cells(notebook, "code"):
        assert not source.startswith("%") or source.startswith(SHELL), source
        assert not re.search(r"^!", source, flags=re.MULTILINE), source


# --------------------------------------------------------------------------------------------- the script that strips


def strip() -> Any:  # noqa: ANN401 - a module by path
    path = Path(__file__).resolve().parents[2] / "notebooks" / "strip.py"
    spec = importlib.util.spec_from_file_location("strip_notebooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executed_notebook() -> dict[str, Any]:
    output = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    code = {"cell_type": "code", "id": "a", "metadata": {"scrolled": True}, "source": ["print(1)"]}
    return {
        "cells": [
            {"cell_type": "markdown", "id": "t", "metadata": {}, "source": ["# é"]},
            {**code, "execution_count": 3, "outputs": [output]},
        ],
        "metadata": {"kernelspec": {"display_name": "mine", "name": "mine"}, "language_info": {"version": "3.11.7"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def test_stripping_leaves_words_and_code() -> None:
    text = strip().stripped(json.dumps(executed_notebook()))
    content = json.loads(text)
    assert [cell["source"] for cell in content["cells"]] == [["# é"], ["print(1)"]]
    assert content["cells"][1]["outputs"] == []
    assert content["cells"][1]["execution_count"] is None
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert "é" in text
    assert strip().stripped(text) == text


def test_check_names_what_is_not_stripped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = strip()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "strip.py"))
    path = tmp_path / "01_x.ipynb"
    path.write_text(json.dumps(executed_notebook()), encoding="utf-8")
    assert module.main(["--check"]) == 1
    assert "01_x.ipynb: expected a notebook without outputs and counts" in capsys.readouterr().out
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0


# ------------------------------------------------------------------------------------------- the tests see mistakes


@pytest.mark.parametrize(
    "command",
    [
        "train optimizer.lrr=1",
        "eval predictionz=x",
        "edit photo.jpg",
        "convert a b --from apple --to diffusers",
        "paint",
    ],
)
def test_commands_with_mistakes_are_seen(command: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        check_command(command.split())


@pytest.mark.parametrize(("text", "is_absolute"), [("/home/me/x", True), ("C:\\x", True), ("runs/tmp/x", False)])
def test_absolute_paths_are_seen(text: str, is_absolute: bool) -> None:
    assert (ABSOLUTE.search(text) is not None) == is_absolute
