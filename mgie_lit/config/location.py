"""Where the config tree lies."""

from __future__ import annotations

from pathlib import Path

from mgie_lit.errors import ConfigError

PACKAGE_DIR = Path(__file__).resolve().parents[1]


def config_dir(package_dir: Path = PACKAGE_DIR) -> Path:
    """Folder with the primary configs: ``conf/`` beside the package in a checkout, else the copy inside the wheel.

    Args:
        package_dir: Folder of the package ``mgie_lit``.

    Returns:
        Absolute path of the folder that holds ``train.yaml``.

    Raises:
        ConfigError: Neither place has the config tree.
    """
    checkout = package_dir.parent
    beside, inside = checkout / "conf", package_dir / "conf"
    # site-packages may hold another project's top-level `conf`, so only a checkout's own folder counts
    if (checkout / "pyproject.toml").is_file() and beside.is_dir():
        return beside
    if inside.is_dir():
        return inside
    raise ConfigError(
        f"expected the config tree at {beside} (checkout) or {inside} (installed package), found neither; "
        "install mgie_lit again"
    )


def list_options(root: Path) -> dict[str, list[str]]:
    """Config groups under ``root`` and their options, both sorted; Hydra's own groups are left out."""
    options: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.yaml")):
        group = path.parent.relative_to(root).as_posix()
        if group not in {".", "hydra"} and not group.startswith("hydra/"):
            options.setdefault(group, []).append(path.stem)
    return options
