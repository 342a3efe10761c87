"""What a training would need, put together, and what is in its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.doctor.dry_run import DryRun, StepShape, dry_run
from mgie_lit.doctor.environment import Environment, look_at_environment, wandb_fault
from mgie_lit.doctor.files import Requirement
from mgie_lit.doctor.hardware import Device, machine_devices, training_devices
from mgie_lit.doctor.memory import USABLE, MemoryEstimate, checkpoint_bytes, estimate_memory, tensor_bytes
from mgie_lit.doctor.parts import PartCount, count_parameters
from mgie_lit.doctor.precision import Precision, parse_precision
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.models.lowering import lower_frozen
from mgie_lit.prompts import EditPrompt

if TYPE_CHECKING:
    from mgie_lit.data.datamodule import EditDataModule
    from mgie_lit.training.module import EditModule

USUAL_UTILISATION = (0.3, 0.5)  # shares of a device's peak that trainings of this kind reach


@dataclass(frozen=True, slots=True)
class Setup:
    """How the training is spread over devices."""

    accelerator: str
    num_devices: int  # processes of a machine
    num_nodes: int
    accumulation: int  # batches of an optimizer step
    num_steps: int | None  # optimizer steps of the training; None = given in epochs
    shape: StepShape  # of a batch
    precision: Precision
    is_cuda: bool

    @property
    def num_processes(self) -> int:
        """Of the whole training."""
        return self.num_devices * self.num_nodes


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that `mgie doctor` says."""

    environment: Environment
    devices: list[Device]  # of this machine
    used: list[Device]  # of the kind that the training asks for
    choices: dict[str, str]  # config group -> option
    faults: list[str]  # of the released code, that are kept
    setup: Setup
    parts: list[PartCount]
    run: DryRun
    memory: MemoryEstimate
    checkpoint: int  # bytes of one
    requirements: list[Requirement]
    problems: list[str]  # why the training could not start, or not end well

    @property
    def flops_per_step(self) -> int:
        """Operations of one process in an optimizer step."""
        return self.run.flops * self.setup.accumulation

    @property
    def seconds_per_step(self) -> tuple[float, float] | None:
        """Between a good and a usual share of the device's peak; None where that is not known."""
        peak = self.used[0].flops(self.setup.precision.computes_in) if self.used else None
        if peak is None:
            return None
        low, high = USUAL_UTILISATION
        return self.flops_per_step / (high * peak), self.flops_per_step / (low * peak)


def diagnose(
    config: Mapping[str, Any],
    module: EditModule,
    *,
    choices: Mapping[str, str],
    requirements: list[Requirement],
    loaded_parts: tuple[str, ...],
    data: EditDataModule | None = None,
    devices: list[Device] | None = None,
) -> Diagnosis:
    """Look at everything that a training would need; nothing is trained or loaded.

    Args:
        config: Of the training, resolved to plain containers.
        module: Built from it, with its weights on the meta device; of no use afterwards.
        choices: Config group -> option.
        requirements: Files that it reads.
        loaded_parts: Name prefixes of the parts whose frozen weights come from files and not from checkpoints.
        data: Batches of the training, to be checked as it would; None = they are not looked at.
        devices: Of the machine; None = look.

    Returns:
        Facts, estimates and problems.

    Raises:
        ConfigError: The precision is not known.
    """
    devices = machine_devices() if devices is None else devices
    trainer = config["trainer"]
    used = training_devices(str(trainer["accelerator"]), devices)
    setup = _setup(config, used, module.editor.guide.prompt)
    environment = look_at_environment(Path(config["paths"]["root"]), config["logger"].get("wandb"))
    parts = count_parameters(module.editor)
    checkpoint = checkpoint_bytes(module.editor, setup.precision, loaded_parts)
    if module.compute.lowers(setup.precision.name):
        lower_frozen(module.editor, _reloadable(module, loaded_parts))
    held = tensor_bytes(module.editor, setup.precision)
    run = dry_run(module.editor, module.objective, setup.shape, setup.precision, is_cuda=setup.is_cuda)
    memory = estimate_memory(*held, run, num_processes=setup.num_processes, is_cuda=setup.is_cuda)
    problems = [_file_problem(need) for need in requirements if need.state == "missing"]
    problems += [] if data is None else _data_problems(data, config, setup.num_processes)
    problems += _device_problems(setup, used, memory)
    problems += [fault] if (fault := wandb_fault(environment.wandb)) else []
    if checkpoint > environment.disk_free:
        problems.append(
            f"paths.root: expected room for a checkpoint of {binary(checkpoint)}, {environment.disk} has "
            f"{binary(environment.disk_free)}; choose another disk with paths.root="
        )
    return Diagnosis(
        environment=environment,
        devices=devices,
        used=used,
        choices=dict(choices),
        faults=[name for name, is_kept in config["faults"].items() if is_kept is True],
        setup=setup,
        parts=parts,
        run=run,
        memory=memory,
        checkpoint=checkpoint,
        requirements=requirements,
        problems=problems,
    )


def binary(num_bytes: float) -> str:
    """E.g. ``29.9 GiB`` or ``5.94 MiB``, as memory is sold and shown; three digits count.

    >>> binary(8_021_029_035 * 4)
    '29.9 GiB'
    """
    value, unit = (num_bytes / 2**30, "GiB") if num_bytes >= 2**30 else (num_bytes / 2**20, "MiB")
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _reloadable(module: EditModule, loaded_parts: tuple[str, ...]) -> list[str]:
    """Frozen parameters of parts whose weights come from files."""
    names = [name for name, parameter in module.editor.named_parameters() if not parameter.requires_grad]
    return [name for name in names if any(name.startswith(f"{part}.") for part in loaded_parts)]


def _file_problem(need: Requirement) -> str:
    return f"{need.key}: {need.fault}" if need.place == "null" else f"{need.key}={need.place}: {need.fault}"


def _data_problems(data: EditDataModule, config: Mapping[str, Any], num_processes: int) -> list[str]:
    """What the training itself would say when it opens its data."""
    validates = config["trainer"].get("limit_val_batches") != 0
    try:
        data.check(world_size=num_processes, splits=("train", "val") if validates else ("train",))
    except (ConfigError, DataError) as error:
        return [str(error)]
    return []


def _setup(config: Mapping[str, Any], used: list[Device], prompt: Any) -> Setup:  # noqa: ANN401 - of any guide
    trainer = config["trainer"]
    accelerator, devices = str(trainer["accelerator"]), trainer.get("devices", "auto")
    steps, size = trainer.get("max_steps"), int(config["data"]["batch_size"])
    is_cuda = used[0].kind == "cuda" if used else accelerator in ("gpu", "cuda")
    return Setup(
        accelerator=accelerator,
        num_devices=devices if isinstance(devices, int) else max(1, sum(one.kind != "cpu" for one in used)),
        num_nodes=int(trainer.get("num_nodes") or 1),
        accumulation=int(trainer["accumulate_grad_batches"]),
        num_steps=int(steps) if steps is not None and steps > 0 else None,
        shape=StepShape(
            batch_size=size,
            length=prompt.max_length,
            # rows as long as they may be, whose instructions are empty: none has more to write
            num_labels=size * (prompt.max_length - len(prompt.prompt_ids(""))) if isinstance(prompt, EditPrompt) else 0,
            resolution=int(config["size"]["resolution"]),
        ),
        precision=parse_precision(trainer.get("precision")),
        is_cuda=is_cuda,
    )


def _device_problems(setup: Setup, used: list[Device], memory: MemoryEstimate) -> list[str]:
    if not used:
        return [
            f"trainer.accelerator: expected {setup.num_devices} x {setup.accelerator}, this machine has none; run the "
            "training on one that has, or choose trainer.accelerator=cpu"
        ]
    if used[0].kind == "cpu":
        needed, there = memory.total * setup.num_devices, used[0].memory
        if needed <= there:
            return []
        return [
            f"memory: expected {binary(needed)} for {setup.num_devices} processes, this machine has "
            f"{binary(there)}; lower data.batch_size, or take a smaller size="
        ]
    problems = []
    if setup.num_devices > len(used):
        problems.append(
            f"trainer.devices: expected at most the {len(used)} of this machine, got {setup.num_devices}; "
            f"trainer.devices={len(used)}"
        )
    room = min(device.memory for device in used)
    if memory.total > USABLE * room:
        problems.append(
            f"memory: expected {binary(memory.total)} on each device, {used[0].name} has {binary(room)}, of which "
            f"{USABLE:.0%} can be used; lower data.batch_size, or take trainer.precision=bf16-mixed or bf16-true"
        )
    return problems
