"""The reference: pages that are made of the code, the commands' help, the config tree and the installed packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import api_reference
import cli_reference
import config_reference
import licences
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {"cli.md": cli_reference.page(), "licences.md": licences.page()}
    pages |= {f"api/{name}": text for name, text in api_reference.pages().items()}
    pages |= {f"config/{name}": text for name, text in config_reference.pages().items()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    return files
