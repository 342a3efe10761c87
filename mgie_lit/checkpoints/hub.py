"""Exports from the Hugging Face hub and to it: configs, safetensors, tokenizer and card; never pickles or code."""

from __future__ import annotations

from pathlib import Path

from mgie_lit.checkpoints.cards.files import CARD_FILE, is_edited
from mgie_lit.errors import CheckpointError

LAYOUT = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", CARD_FILE)  # all that an export is made of


def download(hub_id: str) -> Path:
    """The files of a repository that an export is made of.

    Args:
        hub_id: ``owner/name``.

    Returns:
        Folder in the hub's cache.

    Raises:
        CheckpointError: The repository can not be read.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(LAYOUT)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointError(
            f"model {hub_id}: neither a local folder nor a repository that can be read from the hub ({error}); "
            "download it elsewhere and name the folder"
        ) from error


def upload(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload an export; what is not of its layout stays here, and so does the card if the hub has an edited one.

    Args:
        folder: Of the export.
        repo_id: ``owner/name``; made where it is missing.
        private: Of a repository that is made; None = the owner's default.
        token: Of the hub; None = that of ``hf auth login``.
        commit_message: On the hub.
        create_pr: Propose the change instead of making it.

    Returns:
        The commit's address.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repository = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    info = api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        allow_patterns=list(LAYOUT),
        ignore_patterns=[CARD_FILE] if _has_edited_card(repository, token) else None,
        commit_message=commit_message or f"Upload {folder.name}",
        create_pr=create_pr,
    )
    return str(info.commit_url)


def _has_edited_card(repo_id: str, token: str | None) -> bool:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        file = hf_hub_download(repo_id, CARD_FILE, token=token)
    except EntryNotFoundError:
        return False
    return is_edited(Path(file).read_text(encoding="utf-8", errors="replace"))
