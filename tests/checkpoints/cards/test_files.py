from __future__ import annotations

from pathlib import Path

from mgie_lit.checkpoints.cards.files import front_matter, is_edited, sealed, write_card


def test_a_card_is_renewed_until_somebody_edits_it(tmp_path: Path) -> None:
    assert write_card(tmp_path, sealed("first"))
    assert write_card(tmp_path, sealed("second"))
    file = tmp_path / "README.md"
    assert file.read_text().startswith("second\n")
    file.write_text(file.read_text().replace("second", "mine"))
    assert not write_card(tmp_path, sealed("third"))
    assert file.read_text().startswith("mine\n")


def test_somebody_s_own_card_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"my card \xff")
    assert not write_card(tmp_path, sealed("a"))
    assert (tmp_path / "README.md").read_bytes() == b"my card \xff"


def test_the_seal() -> None:
    text = sealed("a\n\nb\n\n\n")
    assert not is_edited(text)
    assert not is_edited(text + "\n")
    assert is_edited(text + "more")
    assert is_edited(text.replace("a", "c", 1))
    assert is_edited("")


def test_front_matter(tmp_path: Path) -> None:
    assert front_matter(tmp_path) == {}
    (tmp_path / "README.md").write_text("---\na: 1\n---\n\n---\nb: 2\n---\n")
    assert front_matter(tmp_path) == {"a": 1}
