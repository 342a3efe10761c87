"""A diagnosis as text: tables on a terminal, plain lines elsewhere, 80 columns wide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mgie_lit.doctor.diagnosis import USUAL_UTILISATION, binary
from mgie_lit.doctor.memory import USABLE
from mgie_lit.training.peaks import TERA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.doctor.diagnosis import Diagnosis
    from mgie_lit.doctor.files import Requirement

_Rows = list[tuple[str, ...]]

PLAIN_WIDTH = 80
_CHOICES = ("experiment", "model", "size", "preset", "sampler", "data", "trainer")
_STATES = {"here": "here", "missing": "MISSING", "random": "random weights", "download": "downloaded at the start"}
_CARDS = (16, 24, 32, 40, 48, 80, 140, 180)  # GiB of GPUs that are made


def print_diagnosis(diagnosis: Diagnosis, file: TextIO | None = None) -> None:
    """Write all of it, the problems last.

    Args:
        diagnosis: What to say.
        file: Where to; None = stdout. Colours and lines only on a terminal.
    """
    console = Console(file=file, highlight=False)
    if console.is_terminal:
        _print_all(console, diagnosis)
        return
    plain = Console(highlight=False, width=PLAIN_WIDTH, no_color=True)
    with plain.capture() as capture:
        _print_all(plain, diagnosis)
    console.file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _print_all(console: Console, diagnosis: Diagnosis) -> None:
    _print_table(console, "Environment", _environment_rows(diagnosis))
    _print_table(console, "System", _system_rows(diagnosis))
    _print_table(console, "Parameters", _parameter_rows(diagnosis), head=("part", "total", "trains"), right=(1, 2))
    _print_table(console, _memory_title(diagnosis), _memory_rows(diagnosis), right=(1,))
    _print_table(console, "Time and disk", _cost_rows(diagnosis))
    _print_files(console, diagnosis.requirements)
    _print_verdict(console, diagnosis.problems)


def _environment_rows(diagnosis: Diagnosis) -> _Rows:
    environment = diagnosis.environment
    rows: _Rows = [(name, version or "not installed") for name, version in environment.versions.items()]
    rows.append(("torchvision", environment.torchvision))
    names = [f"{device.name}, {binary(device.memory)}" for device in diagnosis.devices]
    counted = [f"{names.count(name)} x {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)]
    rows.append(("devices", "\n".join(counted)))
    rows.append(("free disk", f"{binary(environment.disk_free)} at {environment.disk}"))
    rows.append(("wandb logging", environment.wandb))
    return rows


def _system_rows(diagnosis: Diagnosis) -> _Rows:
    setup = diagnosis.setup
    rows: _Rows = [(group, diagnosis.choices[group]) for group in _CHOICES if diagnosis.choices.get(group)]
    rows.append(("faults kept", ", ".join(diagnosis.faults) or "none"))
    devices = f"{setup.num_devices} x {setup.accelerator}"
    rows.append(("devices", devices if setup.num_nodes == 1 else f"{devices} on each of {setup.num_nodes} machines"))
    rows.append(("precision", setup.precision.name))
    examples = setup.shape.batch_size * setup.accumulation * setup.num_processes
    rows.append(
        (
            "examples a step",
            f"{setup.shape.batch_size} a batch x {setup.accumulation} batches x {setup.num_processes} "
            f"processes = {examples}",
        )
    )
    return rows


def _parameter_rows(diagnosis: Diagnosis) -> _Rows:
    rows: _Rows = [
        (part.part, f"{part.total:,}", f"{part.trainable:,}" if part.trainable else "-") for part in diagnosis.parts
    ]
    total = sum(part.total for part in diagnosis.parts)
    return [*rows, ("all", f"{total:,}", f"{sum(part.trainable for part in diagnosis.parts):,}")]


def _memory_title(diagnosis: Diagnosis) -> str:
    shape = diagnosis.setup.shape
    return f"Memory of each process ({shape.batch_size} examples, {shape.length} tokens, {shape.resolution} px)"


def _memory_rows(diagnosis: Diagnosis) -> _Rows:
    memory = diagnosis.memory
    rows: _Rows = [
        ("weights", binary(memory.weights)),
        ("gradients", binary(memory.gradients)),
        ("optimizer states", binary(memory.optimizer)),
    ]
    if memory.buckets:
        rows.append(("gradients on their way between processes", binary(memory.buckets)))
    rows.append(("kept for the backward", binary(memory.activations)))
    kept = sorted(diagnosis.run.kept.items(), key=lambda item: -item[1])
    rows += [(f"  of it {part}", binary(size)) for part, size in kept if size > memory.activations / 100]
    rows.append(("temporary results", binary(memory.temporary)))
    rows.append(("at the worst moment", binary(memory.total)))
    rows.append(_room_row(diagnosis))
    return rows


def _room_row(diagnosis: Diagnosis) -> tuple[str, str]:
    total = diagnosis.memory.total
    if not diagnosis.used:
        card = next((size for size in _CARDS if total <= USABLE * size * 2**30), None)
        return "fits a device of", f"{card} GiB" if card else f"more than {_CARDS[-1]} GiB"
    room = min(device.memory for device in diagnosis.used)
    if diagnosis.used[0].kind == "cpu":
        return f"this machine (processes: {diagnosis.setup.num_devices})", binary(room)
    return f"each device, {USABLE:.0%} of it usable", binary(room)


def _cost_rows(diagnosis: Diagnosis) -> _Rows:
    setup, seconds = diagnosis.setup, diagnosis.seconds_per_step
    flops = diagnosis.flops_per_step / TERA
    rows: _Rows = [("operations a step", f"{_rounded(flops)} x 10^12 in each process, rows at their longest")]
    if seconds is None:
        rows.append(("time a step", "unknown: the device's peak is not known here"))
    else:
        low, high = seconds
        shares = f"{USUAL_UTILISATION[1]:.0%} to {USUAL_UTILISATION[0]:.0%} of the device's peak"
        rows.append(("time a step", f"{_rounded(low)} to {_rounded(high)} s at {shares}"))
        if setup.num_steps:
            hours = [_rounded(second * setup.num_steps / 3600) for second in seconds]
            rows.append(
                ("time in all", f"{hours[0]} to {hours[1]} h for {setup.num_steps:,} steps, without validation")
            )
    rows.append(("a checkpoint", binary(diagnosis.checkpoint)))
    return rows


def _print_files(console: Console, requirements: Sequence[Requirement]) -> None:
    console.print(Text("Files", style="bold"))
    for need in requirements:
        state = Text(_STATES[need.state], style={"missing": "bold red", "here": "green"}.get(need.state, ""))
        place = "" if need.place == "null" else f" = {need.place}"
        _print_line(console, Text.assemble(f"{need.key}{place}: ", state), indent=2)
        if need.state == "missing":
            _print_line(console, Text(f"expected: {need.expected}"), indent=4)
            _print_line(console, Text(f"found: {need.fault}"), indent=4)
            _print_line(console, Text(f"get it: {need.how}"), indent=4)
    console.print()


def _print_verdict(console: Console, problems: Sequence[str]) -> None:
    if not problems:
        console.print(Text("The training can start.", style="bold green"))
        return
    console.print(Text("The training can not start as it is:", style="bold red"))
    for problem in problems:
        _print_line(console, Text(f"- {problem}"), indent=2)


def _print_line(console: Console, text: Text, *, indent: int) -> None:
    """A line, its continuations further in; a word too long for the width is cut, not lost."""
    lines = text.wrap(console, console.width - indent - 2)
    for index, line in enumerate(lines):
        console.print(Text(" " * (indent + 2 * bool(index))) + line, soft_wrap=True)


def _print_table(
    console: Console,
    title: str,
    rows: Sequence[tuple[str, ...]],
    *,
    head: tuple[str, ...] | None = None,
    right: tuple[int, ...] = (),
) -> None:
    console.print(Text(title, style="bold"))
    style = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=style, show_header=head is not None, pad_edge=False, padding=(0, 2, 0, 2))
    for index, name in enumerate(head or ("",) * len(rows[0])):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    console.print()


def _rounded(value: float) -> str:
    """Two digits that count, without an exponent."""
    digits = 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{round(value, digits):,.{max(0, digits)}f}"
