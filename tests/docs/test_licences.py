"""The generated list of licences: whole, and honest about copyleft."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))  # as MkDocs does
import licences  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


@pytest.fixture(scope="module")
def page() -> str:
    return licences.page()


@pytest.mark.parametrize("extra", DIRECT)
def test_direct_dependencies_are_in_it(extra: str, page: str) -> None:
    rows = dict(re.findall(r"^\| (\S+) \| (\S+) \| \S.* \|$", page, re.MULTILINE))
    shown = {re.sub(r"[-_.]+", "-", name).lower(): number for name, number in rows.items()}
    for text in DIRECT[extra]:
        name = re.sub(r"[-_.]+", "-", Requirement(text).name).lower()
        if name == PROJECT["name"]:
            continue
        try:
            assert shown[name] == version(name)
        except PackageNotFoundError:
            assert f" {name}" in page.rpartition("Not installed")[2], name


def test_every_direct_dependency_of_the_core_names_its_licence(page: str) -> None:
    for text in DIRECT[""]:
        name = Requirement(text).name
        (row,) = re.findall(rf"^\| {name} \| \S+ \| (.*) \| always \|$", page, re.MULTILINE | re.IGNORECASE) or [""]
        assert row != "", name
        assert row != "see its files", f"{name}: its metadata name none; say in the page which it is"


def test_copyleft_is_listed_apart(page: str) -> None:
    apart = page.partition("## Copyleft")[2].partition("## What")[0]
    for name in ("tqdm", "certifi"):
        assert re.search(rf"^\| {name} \|", apart, re.MULTILINE), name
    assert "| numpy |" not in apart


@pytest.mark.parametrize(
    ("name", "is_copyleft"),
    [
        ("MPL-2.0 AND MIT", True),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("LGPL-2.1-or-later", True),
        ("AGPL-3.0", True),
        ("GPLv2", True),
        ("Apache-2.0", False),
        ("BSD License, MIT License", False),
        ("Python Software Foundation License", False),
        ("HPND", False),
    ],
)
def test_kinds(name: str, is_copyleft: bool) -> None:
    assert licences.is_copyleft(name) == is_copyleft
