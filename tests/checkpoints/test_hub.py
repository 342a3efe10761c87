"""What goes to the hub and comes from it, with a hub that only writes down what it is asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from mgie_lit.checkpoints.cards.files import front_matter, is_edited, sealed
from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.checkpoints.hub import LAYOUT, upload
from mgie_lit.errors import ConfigError
from mgie_lit.pipeline import MGIEPipeline


class Hub:
    """Records uploads; `card` is what a repository has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.uploads: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.card: str | None = None
        self.tmp_path = tmp_path
        monkeypatch.setattr("huggingface_hub.HfApi", lambda token=None: self)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", self.hf_hub_download)

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        assert exist_ok
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, **arguments: Any) -> SimpleNamespace:  # noqa: ANN401
        self.uploads.append(arguments)
        root = Path(arguments["folder_path"])
        names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        chosen = filter_repo_objects(
            names, allow_patterns=arguments["allow_patterns"], ignore_patterns=arguments["ignore_patterns"]
        )
        self.files = {name: (root / name).read_bytes() for name in chosen}
        return SimpleNamespace(commit_url="https://hub/commit")

    def hf_hub_download(self, repo_id: str, name: str, **_: object) -> str:
        if self.card is None:
            raise EntryNotFoundError("no such file")
        (self.tmp_path / name).write_text(self.card)
        return str(self.tmp_path / name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    return Hub(monkeypatch, tmp_path)


def test_what_is_uploaded_loads_again(hub: Hub, tmp_path: Path) -> None:
    pipe = MGIEPipeline.from_pretrained("tiny")
    assert pipe.push_to_hub("me/my-mgie", private=True) == "https://hub/commit"
    (arguments,) = hub.uploads
    assert arguments["repo_id"] == "me/my-mgie"
    assert {Path(name).suffix for name in hub.files} == {".json", ".safetensors", ".md"}
    for name, content in hub.files.items():
        file = tmp_path / "there" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    again = MGIEPipeline.from_pretrained(tmp_path / "there")
    assert all(torch.equal(value, again.unet.state_dict()[name]) for name, value in pipe.unet.state_dict().items())
    assert front_matter(tmp_path / "there")["library_name"] == "diffusers"


def test_only_the_layout_leaves_this_machine(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(TINY_DIR, folder)
    for name in ("unet/a.bin", "step-1.ckpt", "run.py", ".env", "notes.md", "unet/picture.png"):
        (folder / name).write_text("x")
    upload(folder, "me/x")
    assert not {"unet/a.bin", "step-1.ckpt", "run.py", ".env", "notes.md", "unet/picture.png"} & set(hub.files)
    assert {"README.md", "model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= set(hub.files)
    assert not set(LAYOUT) & {"*", "*.bin", "*.py"}


@pytest.mark.parametrize(("card", "is_sent"), [(None, True), (sealed("old"), True), ("edited on the hub", False)])
def test_a_card_that_was_edited_on_the_hub_stays(card: str | None, is_sent: bool, hub: Hub) -> None:
    hub.card = card
    upload(TINY_DIR, "me/x")
    assert ("README.md" in hub.files) == is_sent


def test_saving_can_upload_too(hub: Hub, tmp_path: Path) -> None:
    pipe = MGIEPipeline.from_pretrained("tiny")
    pipe.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id="me/b", commit_message="new")
    (arguments,) = hub.uploads
    assert (arguments["repo_id"], arguments["commit_message"]) == ("me/b", "new")
    assert not is_edited((tmp_path / "a" / "README.md").read_text())


@pytest.mark.faults
def test_pickles_are_not_written(tmp_path: Path) -> None:
    pipe = MGIEPipeline.from_pretrained("tiny")
    with pytest.raises(ConfigError, match="safe_serialization: expected True, an export is safetensors only"):
        pipe.save_pretrained(tmp_path / "a", safe_serialization=False)
    assert not (tmp_path / "a").exists()
