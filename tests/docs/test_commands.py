"""Every command that README and pages show is one that exists, with options and config keys that exist."""

from __future__ import annotations

import re
import shlex
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mgie_lit.cli.hydra_app import _first_of_each_sweep
from mgie_lit.cli.main import COMMANDS
from mgie_lit.cli.prepare import STEPS
from mgie_lit.config.compose import load_config, make_loader
from mgie_lit.config.targets import locate

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

ROOT = Path(__file__).resolve().parents[2]
# but for recipes that make a part of their own, with commands that only then exist: test_recipes.py follows them
PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if 'title="conf/' not in path.read_text(encoding="utf-8")
]
FENCED = re.compile(r"^```([a-z]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = ("bash", "text", "")
INDENTED = re.compile(r"^    (\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
# `mgie` at the start of a line, or behind `VAR=value` and programs that start processes
STARTERS = r"(?:[A-Z_]+=\S+ |(?:torchrun|srun|exec) (?:\S+ )*?(?=mgie |python |-m ))*(?:python )?"
CALL = re.compile(rf"^{STARTERS}(?:-m mgie_lit\.cli\.main|mgie) (.+)$")
OBJECT = re.compile(r"`((?:functional|models|editor|guides|sampling|prompts)(?:\.\w+)+)(?:\(\))?`")
FILE = re.compile(r"(?<![\w/.-])((?:benchmarks|tests|conf|mgie_lit|docs|notebooks)/[\w/.-]*\.(?:py|yaml|md|sh))\b")
HYDRA_FLAGS = {"-m", "--multirun", "--resolve"}
PARSED = ("edit", "convert", "report", "demo")  # commands with options of their own
# values that only the reader knows
STAND_IN = re.compile(r"<[^>]*>|\$\w+|(?<![\w.])\.\.\.(?![\w.])|\.\.\./\S*")


def shown(text: str) -> list[str]:
    """The shell commands of a page: blocks, indented lines, and inline code."""
    blocks = [block for language, block in FENCED.findall(text) if language in SHELLS]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = FENCED.sub("", text)
    lines += INDENTED.findall(prose)
    for paragraph in re.split(r"\n\n|(?<=\|)\n", prose):
        lines += [" ".join(code.split()) for code in INLINE.findall(paragraph)]
    return [line.strip() for line in lines]


def calls_of(path: Path) -> list[str]:
    """What stands behind `mgie` in a page."""
    found = [match[1] for line in shown(path.read_text(encoding="utf-8")) if (match := CALL.match(line))]
    return [call for call in found if call.split()[0] != "COMMAND"]


CALLS = {call: path.relative_to(ROOT) for path in PAGES for call in calls_of(path)}


@cache
def loader_of(primary: str) -> ConfigLoader:
    """Hydra's reader of the config tree, made once."""
    return make_loader(primary)


def check(call: str) -> None:
    """Parse a command; what it names has to exist.

    Raises:
        ConfigError: A group, option or key is not there.
        SystemExit: An option is not there.
        AssertionError: The command is not there.
    """
    words = shlex.split(STAND_IN.sub("X", call), comments=True)
    command, arguments = words[0], words[1:]
    if command.startswith("-"):
        assert command in {"--version", "--help"}
        return
    assert command in COMMANDS, command
    if "--help" in arguments or not arguments:
        return
    if command in PARSED:
        parser = import_module(f"mgie_lit.cli.{command}")._parser()
        if all(word.startswith("-") for word in arguments):  # options that a sentence speaks of
            assert set(arguments) <= set(parser._option_string_actions), arguments
        else:
            parser.parse_args(arguments)
        return
    primary = command
    if command == "prepare":
        assert arguments[0] in STEPS or arguments[0].split("|")[0] in STEPS, arguments[0]
        primary = "train" if arguments.pop(0) == "cache" else "prepare"
    elif command == "doctor":
        primary = "train"
    overrides = [one for one in arguments if one not in HYDRA_FLAGS | {"X", "data=X"}]
    for flag in ("--json", "--cfg"):
        if flag in overrides:
            place = overrides.index(flag)
            del overrides[place : place + 2]
    loader = loader_of(primary)
    load_config(loader, primary, _first_of_each_sweep(loader, overrides))


def test_the_search_finds_commands() -> None:
    assert len(CALLS) >= 80
    assert {call.split()[0] for call in CALLS} >= set(COMMANDS)
    page = "a `mgie edit\nx.png y` b\n```bash\nmgie train a=1 \\\n  b=2  # c\n```\n    mgie report D\n"
    assert [CALL.match(line)[1] for line in shown(page) if CALL.match(line)] == [  # type: ignore[index]
        "train a=1    b=2  # c",
        "report D",
        "edit x.png y",
    ]
    torchrun = "torchrun --nproc-per-node=8 -m mgie_lit.cli.main train trainer.devices=8"
    assert CALL.match(torchrun)[1] == "train trainer.devices=8"  # type: ignore[index]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{CALLS[call].stem}: {call}")
def test_command_is_one_that_exists(call: str) -> None:
    check(call)


@pytest.mark.parametrize(
    "call", ["train experiment=smok", "train data.rot=x", "edit a.png b --stps 3", "prepare chek", "deomo"]
)
def test_a_command_that_does_not_exist_is_seen(call: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        check(call)


def test_other_things_that_pages_name_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    wrong, count = [], 0
    for path in PAGES:
        for line in shown(path.read_text(encoding="utf-8")):
            made = re.findall(r"^make ([a-z-]+)", line)
            files = [name for name in FILE.findall(line) if not Path(name).stem.endswith(("x", "..."))]  # x: yours
            count += len(made) + len(files)
            wrong += [f"{path.name}: make {name}" for name in made if name not in targets]
            wrong += [f"{path.name}: {name}" for name in files if not (ROOT / name).exists()]
    assert count >= 60
    assert wrong == []


def test_functions_and_classes_that_pages_name_exist() -> None:
    named = {name for path in PAGES for name in OBJECT.findall(path.read_text(encoding="utf-8"))}
    assert len(named) >= 15
    for name in named:
        if not name.endswith(".py") and not name.startswith("sampling."):  # a file; keys of conf/eval.yaml
            locate(f"mgie_lit.{name}")
