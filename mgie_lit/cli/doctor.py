"""``mgie doctor``: what a training would need, before it runs."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mgie_lit.doctor.diagnosis import Diagnosis

CAN_NOT_START = 1
HELP = """\
usage: mgie doctor [OVERRIDES] [--json FILE]

Say what a training of this config (conf/train.yaml, as for `mgie train`) would need: parameters, memory, time, files.
The data are opened as a training opens them, but no image (a large set is indexed at the first time); nothing is
trained or loaded. Exit status 0 = it could start, 1 = something is missing or does not fit.

examples:
  mgie doctor
  mgie doctor experiment=mgie_7b_ipr2pr data.batch_size=2
  mgie doctor experiment=mgie_7b_ipr2pr trainer.precision=bf16-true --json needs.json
"""


def run(argv: list[str]) -> None:
    """Diagnose the training that ``argv`` composes.

    Args:
        argv: Overrides, and ``--json FILE``.

    Raises:
        ConfigError: The config is faulty, or FILE exists.
        SystemExit: Status 1: the training could not start.
    """
    if HELP_FLAGS & set(argv):
        sys.stdout.write(overrides_help(HELP, has_flags=False))
        return
    arguments = _parser().parse_intermixed_args(argv)
    output = None if arguments.output is None else Path(arguments.output)
    if output is not None and output.exists():
        raise ConfigError(f"--json: expected a new file, but {output} exists; choose another, or remove it")
    from mgie_lit.doctor.environment import torchvision_fault

    if fault := torchvision_fault():  # everything below would fail over it
        print(fault)
        raise SystemExit(CAN_NOT_START)
    from mgie_lit.doctor.report import print_diagnosis

    diagnosis = _diagnose(arguments.overrides)
    print_diagnosis(diagnosis)
    if output is not None:
        output.write_text(json.dumps(_as_json(diagnosis), indent=2, default=str) + "\n", encoding="utf-8")
    if diagnosis.problems:
        raise SystemExit(CAN_NOT_START)


def _diagnose(overrides: list[str]) -> Diagnosis:
    from mgie_lit.config.runs import resolved
    from mgie_lit.config.shapes import build_shapes, build_unseen_data
    from mgie_lit.config.start import start_sources
    from mgie_lit.doctor.diagnosis import diagnose
    from mgie_lit.doctor.files import (
        SMALL_TOKENIZER,
        data_requirements,
        encoder_requirements,
        start_requirements,
        tokenizer_requirement,
    )

    config, choices = _composed(overrides)
    content = resolved(config)
    size = content["size"]
    tokenizer = tokenizer_requirement(size["tokenizer"]["source"])
    data_files = list(data_requirements(content["data"], choices["data"]))
    requirements = [
        *start_requirements(size.get("start") or {}),
        tokenizer,
        *data_files,
        *encoder_requirements(content["metrics"]),
    ]
    module = build_shapes(config, tokenizer=None if tokenizer.state == "here" else SMALL_TOKENIZER)
    return diagnose(
        content,
        module,
        choices=choices,
        requirements=requirements,
        loaded_parts=tuple(start_sources(config)),
        data=build_unseen_data(config, module.editor) if all(file.state == "here" for file in data_files) else None,
    )


def _composed(overrides: list[str]) -> tuple[DictConfig, dict[str, str]]:
    """The checked config of a training, and which option of each group it took."""
    from mgie_lit.config.compose import compose_config, load_config, make_loader
    from mgie_lit.config.resume import resumed_config
    from mgie_lit.config.validate import validate_config

    config = compose_config("train", overrides)
    validate_config(config)
    chosen = load_config(make_loader("train"), "train", overrides).hydra.runtime.choices
    choices = {str(group): str(option) for group, option in chosen.items() if option is not None}
    if config.resume is not None:
        config = resumed_config(config, overrides)
    return config, choices


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    content = asdict(diagnosis)
    content["memory"]["total"] = diagnosis.memory.total
    content["flops_per_step"] = diagnosis.flops_per_step
    content["seconds_per_step"] = diagnosis.seconds_per_step
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mgie doctor", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", metavar="OVERRIDES", nargs="*")
    parser.add_argument("--json", dest="output", metavar="FILE")
    return parser
