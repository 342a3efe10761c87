from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from importlib import import_module

import pytest

from mgie_lit.cli.main import COMMANDS, main
from mgie_lit.cli.prepare import STEPS
from mgie_lit.errors import ConfigError, DataError

HELPS = [["--help"], ["-h"], ["--version"], *[[name, "--help"] for name in COMMANDS]]


def run_raising(monkeypatch: pytest.MonkeyPatch, error: BaseException, arguments: list[str] | None = None) -> int:
    """Exit status of `mgie report` when its run raises ``error``."""

    def run(_: list[str]) -> None:
        raise error

    monkeypatch.setattr(import_module("mgie_lit.cli.report"), "run", run)
    with pytest.raises(SystemExit) as caught:
        main(arguments or ["report", "x"])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize("arguments", HELPS, ids=" ".join)
def test_help_answers_without_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):  # argparse exits
        main(arguments)
    out, err = capsys.readouterr()
    assert out.startswith("mgie " if arguments == ["--version"] else "usage: mgie ")
    assert err == ""


def test_help_lists_exactly_the_commands_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [name for name in listed if not name.startswith("-")] == list(COMMANDS)
    assert all(callable(import_module(f"mgie_lit.cli.{name}").run) for name in COMMANDS)


def test_help_names_all_steps_of_prepare() -> None:
    assert COMMANDS["prepare"].partition(": ")[2] == ", ".join(STEPS)


def test_bars_do_not_move_in_a_log_that_is_forced_to_have_colours() -> None:
    code = """
import sys
from rich.console import Console
from mgie_lit.cli.main import main
sys.argv = ["mgie", "--version"]
main()
console = Console(stderr=True)
assert console.is_terminal and not console.is_interactive
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "FORCE_COLOR": "1"}, capture_output=True
    )


def test_helps_are_fast_and_import_nothing_heavy() -> None:
    """All of them in one process; each alone takes 0.2 s on an idle machine, most of it Python's own start."""
    code = f"""
import contextlib, sys
from mgie_lit.cli.main import COMMANDS, main
for arguments in {HELPS!r}:
    with contextlib.suppress(SystemExit):
        main(arguments)
heavy = set("torch hydra omegaconf lightning diffusers transformers numpy PIL pandas".split()) & set(sys.modules)
assert not heavy, heavy
"""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    assert time.perf_counter() - start < 3  # the machine may be busy


@pytest.mark.faults
class TestErrors:
    def test_no_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main([])
        assert capsys.readouterr().err.startswith("usage: mgie COMMAND")

    @pytest.mark.parametrize(
        ("name", "hint"), [("trian", "; did you mean train?"), ("reports", "; did you mean report?"), ("zzz", "")]
    )
    def test_unknown_command(self, name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main([name])
        message = f"mgie: error: expected a command ({', '.join(COMMANDS)}), got {name}{hint}\n"
        assert capsys.readouterr().err == message

    def test_one_line_message(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_raising(monkeypatch, DataError("a.png: expected an image")) == 2
        assert capsys.readouterr() == ("", "mgie report: error: a.png: expected an image\n")

    def test_several_lines(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_raising(monkeypatch, ConfigError("a: bad\nb: bad")) == 2
        assert capsys.readouterr().err == "mgie report: error: \n  a: bad\n  b: bad\n"

    def test_debug_shows_the_traceback(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MGIE_DEBUG", "1")
        assert run_raising(monkeypatch, ConfigError("a: bad")) == 2
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert err.endswith("mgie report: error: a: bad\n")

    def test_internal_error(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_raising(monkeypatch, KeyError("oops")) == 1
        err = capsys.readouterr().err
        assert "Traceback" in err
        assert "mgie report: internal error (KeyError), a fault of mgie_lit rather than yours. Please report" in err

    def test_interrupt(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_raising(monkeypatch, KeyboardInterrupt()) == 130
        assert capsys.readouterr().err == "\nmgie report: interrupted\n"

    def test_own_exit_status_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert run_raising(monkeypatch, SystemExit(143)) == 143

    @pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
    def test_reader_that_has_gone(self, arguments: list[str]) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "mgie_lit.cli.main", *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")
