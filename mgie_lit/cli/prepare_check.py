"""``mgie prepare check``: what is wrong with a data set, and which examples to leave out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.prepare.check.findings import Finding

LOG = logging.getLogger(__name__)

_HAS_FINDINGS = 1  # exit status
_OWN = {"on_error": "error", "exclude": None, "expressive": None}  # every example is opened, whatever a training does


def run(overrides: list[str]) -> None:
    """Check a data set, print what was found and, last, the file for ``data.exclude=``.

    Args:
        overrides: Of ``conf/prepare.yaml``.

    Raises:
        ConfigError: The config is faulty, or results of another check lie in the folder.
        DataError: The data set can not be read at all.
        SystemExit: Status 1 if there are errors among the findings.
    """
    from rich.console import Console

    from mgie_lit.config.compose import compose_config
    from mgie_lit.config.validate import validate_config
    from mgie_lit.prepare.check.examine import Limits
    from mgie_lit.prepare.check.findings import ERROR, check_also_excluded, exclusions
    from mgie_lit.prepare.check.report import (
        CLEAN_FILE,
        EXCLUDE_FILE,
        FINDINGS_FILE,
        summary,
        write_clean,
        write_exclusions,
        write_findings,
    )
    from mgie_lit.prepare.check.run import check

    config = compose_config("prepare", overrides)
    validate_config(config, unused={"size", "expressive"})
    options = config.check
    also = check_also_excluded(list(options.also_exclude))
    paths = [Path(options.dir) / name for name in (FINDINGS_FILE, EXCLUDE_FILE, CLEAN_FILE)]
    for path in paths:
        if path.exists():
            raise ConfigError(f"check.dir: expected a folder without results, but {path} exists; choose another")
    limits = Limits(
        options.aspect_tolerance, options.unedited_difference, options.unedited_quality, options.max_text_length
    )
    expressive = _expressive(config)
    datasets, findings = _datasets(config)
    findings += check(datasets, limits, num_workers=options.num_workers, expressive=expressive)
    problems = exclusions(findings, also)
    findings_path, exclude_path, clean_path = paths
    write_findings(findings, findings_path)
    write_exclusions(problems, exclude_path)
    write_clean(datasets, problems, clean_path)
    Console().print(summary(findings, {split: len(dataset) for split, dataset in datasets.items()}))
    print(f"findings: {findings_path}\nclean: {clean_path}\nto leave out (data.exclude=):\n{exclude_path}")
    if any(finding.severity == ERROR for finding in findings):
        raise SystemExit(_HAS_FINDINGS)


def _datasets(config: DictConfig) -> tuple[dict[str, EditDataset], list[Finding]]:
    """Readers of the splits asked for, and what is to be said of splits that are not there."""
    from mgie_lit.config.build import build_dataset
    from mgie_lit.data.readers import SPLITS
    from mgie_lit.prepare.check.findings import Finding

    is_all = config.check.splits == "all"
    asked = list(SPLITS) if is_all else list(config.check.splits)
    unknown = [split for split in asked if split not in SPLITS]
    if unknown or not asked:
        raise ConfigError(f"check.splits: expected all, or a list of {', '.join(SPLITS)}, got {config.check.splits}")
    for key, value in _OWN.items():
        if key in config.data:
            config.data[key] = value
    datasets: dict[str, EditDataset] = {}
    missing: dict[str, DataError] = {}
    for split in (split for split in SPLITS if split in asked):
        try:
            datasets[split] = build_dataset(config, split)
        except DataError as error:
            missing[split] = error
    if missing and not (is_all and datasets):
        raise next(iter(missing.values()))
    return datasets, [Finding("", split, "no_split", str(error)) for split, error in missing.items()]


def _expressive(config: DictConfig) -> Mapping[str, str | None] | None:
    """Texts by id of the files in ``data.expressive``; None where examples need none."""
    from omegaconf import OmegaConf

    from mgie_lit.data.readers.expressive import RAW_WORDS, expressive_files, read_expressive

    given = config.data.get("expressive")
    if given is None or given == RAW_WORDS:
        return None
    if OmegaConf.is_config(given):
        given = OmegaConf.to_container(given)
    return dict(read_expressive(expressive_files(given, "data")))
