"""Version, changelog, citation and the files of a release agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
# https://semver.org, the expression that it suggests
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Numerics"}
TOP_LEVEL = {
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "benchmarks",
    "conf",
    "constraints.txt",
    "docs",
    "mgie_lit",
    "mkdocs.yml",
    "notebooks",
    "pyproject.toml",
    "tests",
    ".gitignore",  # hatchling adds it
}


def numbers(version: str) -> tuple[int, ...]:
    match = SEMVER.fullmatch(version)
    assert match is not None, f"{version}: expected a semantic version"
    return tuple(int(part) for part in match.groups()[:3])


def test_version_is_semantic_and_the_citation_s() -> None:
    assert SEMVER.fullmatch(PROJECT["version"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_changelog_is_one_that_is_kept() -> None:
    versions = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for heading in versions[1:]:
        match = re.fullmatch(r"\[(\S+)\] - \d{4}-\d{2}-\d{2}", heading)
        assert match is not None, f"{heading}: expected [version] - date"
    released = [heading.partition("]")[0].lstrip("[") for heading in versions[1:]]
    assert released == sorted(released, key=numbers, reverse=True), "the newest comes first"
    assert not released or numbers(PROJECT["version"]) >= numbers(released[0])
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= KINDS
    unreleased = CHANGELOG.partition("## [Unreleased]")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (.+)$", unreleased, re.MULTILINE)
    assert len(headings) == len(set(headings)), "a heading is there twice"


def test_every_extra_is_described() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    for extra in PROJECT["optional-dependencies"]:
        assert re.search(rf"^\| `{extra}` \| \S", page, re.MULTILINE), extra


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_archives_are_what_an_index_takes(archives: Path) -> None:
    files = [str(file) for file in archives.iterdir()]
    assert len(files) == 2
    check = (sys.executable, "-m", "twine", "check", "--strict", *files)
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = archives.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "mgie_lit/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_source_archive_is_the_whole_project(archives: Path) -> None:
    (archive,) = archives.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("no git here that knows the project's files")
    tracked = set(listing.stdout.splitlines())
    assert len(tracked) > 400, "the search is broken"
    expected = {name for name in tracked if name.partition("/")[0] in TOP_LEVEL - {".gitignore"}}
    assert expected - inside == set()
    assert {name.partition("/")[0] for name in inside} <= TOP_LEVEL
    assert {name for name in inside if "__pycache__" in name or name.endswith((".pyc", ".ckpt"))} == set()
