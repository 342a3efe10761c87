"""What may change when a training is resumed: what leaves the steps to come as they were, and what is named."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mgie_lit.config.devices import count_devices
from mgie_lit.config.runs import resolved
from mgie_lit.errors import ConfigError

ALLOW = "resume_allow"
# How long, how often, where to and on what; none of it moves the steps that are still to come.
FREE = (
    "resume", ALLOW, "job", "optimized_metric", "paths.*", "logger.*", "callbacks.*", "metrics.*", "encoders.*",
    "sampler.options.*", "data.num_workers", "data.num_examples.val", "data.num_examples.test",
    "trainer.max_steps", "trainer.max_epochs", "trainer.max_time", "trainer.min_steps", "trainer.min_epochs",
    "trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.limit_val_batches",
    "trainer.log_every_n_steps", "trainer.enable_*", "trainer.accelerator", "trainer.strategy*", "trainer._target_",
    "compute.checkpoint_*", "compute.frozen_in_bf16", "compute._target_",  # same results
    "size.start.*",  # frozen weights are compared by their hash
)  # fmt: skip
# How the examples of a step are shared; free as long as their number stays.
SHARES = ("data.batch_size", "trainer.devices", "trainer.num_nodes", "trainer.accumulate_grad_batches")
EFFECTIVE = "effective_batch_size"
KEPT = ("optimizer.*",)  # in the checkpoint: a change would have no effect
_ALLOWED_NOT_RANKS = "faults.overlapping_ranks"
_OF_BATCHES = ("data.max_aspect", "data.length_buckets")  # ranks get whole batches: their size has to stay


def check_changes(before: DictConfig, after: DictConfig, allowed: Collection[str]) -> None:
    """Refuse what would make a resumed training another one.

    Args:
        before: Config that the run was trained with.
        after: The same with what was typed on top; batches of a step are counted anew where only their share changed.
        allowed: Keys that may change all the same, or whole branches.

    Raises:
        ConfigError: Something else has changed; one line for each, with both values.
    """
    share_again(before, after)
    old, new = flat(resolved(before)), flat(resolved(after))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if step_size(before) == step_size(after):
        free = [*FREE, EFFECTIVE, *_free_shares(after)]
    else:
        free = [*FREE, *(key for key in SHARES if key not in changed)]
    faults, refused = [], []
    for key in changed:
        difference = f"{key}: {_show(old, key)} -> {_show(new, key)}"
        if any(fnmatchcase(key, pattern) for pattern in KEPT):
            faults.append(f"{difference}: kept in the checkpoint, a change has no effect; start a new run")
        elif not _matches(key, free) and not _is_below(key, allowed):
            refused.append(key)
            faults.append(f"{difference}: expected the run as it was trained")
    if refused:
        faults[-1] += f"; leave it out, or allow it by name: {ALLOW}=[{','.join(refused)}]"
    if faults:
        raise ConfigError("\n".join(faults))


def _free_shares(config: DictConfig) -> list[str]:
    """What may share the examples of a step in another way without moving one into another step."""
    if OmegaConf.select(config, _ALLOWED_NOT_RANKS):
        return []
    is_batched = any(OmegaConf.select(config, key) is not None for key in _OF_BATCHES)
    return [key for key in SHARES if not (is_batched and key == "data.batch_size")]


def step_size(config: DictConfig) -> int:
    """Examples of an optimizer step, over all batches, processes and machines."""
    trainer = config.trainer
    devices = count_devices(trainer.accelerator, trainer.devices) * (trainer.get("num_nodes") or 1)
    return int(config.data.batch_size) * int(trainer.accumulate_grad_batches) * devices


def flat(content: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401 - any nest of a config
    """Values by dotted key; an empty branch is a value.

    >>> flat({"a": {"b": 1, "c": {}}, "d": [2]})
    {'a.b': 1, 'a.c': {}, 'd': [2]}
    """
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    return {
        key: value
        for name, branch in content.items()
        for key, value in flat(branch, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def share_again(before: DictConfig, after: DictConfig) -> None:
    """Let a step keep its number of examples where processes or batches changed and nothing was said about it.

    Args:
        before: Of the run.
        after: The same with what was typed on top; changed in place.

    Raises:
        ConfigError: The examples of a step can not be shared so.
    """
    old = before.trainer.accumulate_grad_batches
    if after.trainer.accumulate_grad_batches != old:
        return
    wanted = step_size(before)
    if after.get(EFFECTIVE) and after.get(EFFECTIVE) != before.get(EFFECTIVE):
        wanted = int(after[EFFECTIVE])
    batch = step_size(after) // old
    if wanted % batch:
        if _same(before, after, ["data.batch_size", EFFECTIVE]):
            raise ConfigError(
                f"trainer.devices: expected a number of processes that can share the run's {wanted} examples of an "
                f"optimizer step in batches of {after.data.batch_size}, got {after.trainer.devices}; change "
                "data.batch_size with it"
            )
        return
    new = wanted // batch
    after.trainer.accumulate_grad_batches = new
    interval = after.trainer.get("val_check_interval")  # in batches
    if isinstance(interval, int) and interval == before.trainer.get("val_check_interval"):
        after.trainer.val_check_interval = max(1, interval * new // old)


def _same(before: DictConfig, after: DictConfig, keys: Sequence[str]) -> bool:
    return all(OmegaConf.select(before, key) == OmegaConf.select(after, key) for key in keys)


def _matches(key: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _is_below(key: str, names: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _show(values: dict[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "nothing"
