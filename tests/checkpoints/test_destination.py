from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.checkpoints.destination import new_folder
from mgie_lit.errors import CheckpointError


@pytest.mark.parametrize("is_there", [True, False])
def test_the_folder_appears_at_the_end(is_there: bool, tmp_path: Path) -> None:
    dest = tmp_path / "a" / "b"
    if is_there:
        dest.mkdir(parents=True)
    with new_folder(dest) as folder:
        (folder / "file").write_text("x")
        assert not (dest / "file").exists()
    assert [path.name for path in dest.parent.iterdir()] == ["b"]
    assert (dest / "file").read_text() == "x"


def test_others_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with new_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.faults
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_after_a_failure(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):  # noqa: PT012, SIM117 - the failure is inside
        with new_folder(tmp_path / "a" / "b" / "c") as folder:
            (folder / "file").write_text("x")
            raise error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_folders_that_were_there_stay_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "other").write_text("x")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "b"):
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other"]
    assert list((tmp_path / "a").iterdir()) == []


@pytest.mark.faults
def test_a_full_disk_is_the_users_to_repair(tmp_path: Path) -> None:
    message = r"can not write the result .*No space left.*nothing was left there"
    with pytest.raises(CheckpointError, match=message), new_folder(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="new or empty folder, got one with files"), new_folder(tmp_path):
        pass
    with pytest.raises(CheckpointError, match="new or empty folder, got a file"), new_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "x"
