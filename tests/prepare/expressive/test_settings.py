"""What the words of a file depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.expressive.settings import Settings, differing, read_settings, require_same

CONTENT = {"deriver": {"question": "what if '{instruction}'", "dtype": "float32"}, "batch_size": 4, "summariser": None}


def test_hash_depends_on_content_alone() -> None:
    settings = Settings(CONTENT, {"device": "cpu"})
    assert len(settings.hash) == 16
    assert settings.hash == Settings(dict(reversed(CONTENT.items())), {"device": "cuda"}).hash
    assert settings.hash != Settings({**CONTENT, "batch_size": 5}).hash


def test_written_settings_are_read(tmp_path: Path) -> None:
    settings = Settings(CONTENT, {"device": "cpu"})
    (tmp_path / "settings.json").write_text(settings.to_json())
    assert read_settings(tmp_path / "settings.json") == settings


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}}'])
def test_unreadable_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(
        DataError, match=r"settings\.json: expected the settings of a run .* remove the folder to begin"
    ):
        read_settings(tmp_path / "settings.json")


def test_every_difference_is_named() -> None:
    now = {"deriver": {"question": "how " * 50, "dtype": "float32", "new": 1}, "batch_size": 4, "summariser": {"a": 1}}
    names = [name for name, *_ in differing(CONTENT, now)]
    assert names == ["deriver.new", "deriver.question", "summariser"]
    with pytest.raises(ConfigError) as caught:
        require_same(Settings(CONTENT), Settings(now), Path("out.parts"))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(
        "expressive.path: expected the settings that out.parts was begun with, got others; set these"
    )
    assert lines[1] == "deriver.new: nothing before, 1 now"
    assert lines[2].startswith("deriver.question: what if '{instruction}' before, how how")
    assert len(lines[2]) < 140
    assert lines[3] == 'summariser: null before, {"a": 1} now'


def test_many_differences_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"\nand 4 more$"):
        require_same(Settings({}), Settings({f"k{number}": 1 for number in range(12)}), Path("p"))


def test_same_settings_pass() -> None:
    require_same(Settings(CONTENT, {"device": "cpu"}), Settings(CONTENT, {"device": "cuda"}), Path("p"))
