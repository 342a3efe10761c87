"""A training step without numbers: real code on tensors that have shapes only, watched for memory and FLOPs.

A formula for what each layer keeps goes out of date with every change of a model; the step itself does not. Its
tensors are PyTorch's fake ones: no memory, no arithmetic, but the same operations, number types and graph as in a real
step. What is kept, and why:

* **Language model.** It is frozen, yet its word embeddings train, so the gradient crosses all layers, and each keeps
  about ``(6 + 2 F / D) b D`` bytes a position (``D`` width, ``F`` feed-forward width, ``b`` bytes a number): the inputs
  of its two norms, queries, keys, values and attention's output, two products of the feed-forward part
  (``models.gates``). Inputs of frozen matrices are not kept. Attention is PyTorch's fused one: no ``S x S`` matrix a
  head, only one mask of that size a layer and example.
* **Its weights, a second time.** Under ``bf16-mixed`` and ``16-mixed`` the weights stay float32 and every matrix is
  converted when it is used; the converted copy is kept for the backward, for the frozen layers, too.
* **LM head.** Scores of ``N`` labels, at most of one chunk: ``N V`` numbers in float32 (cross entropy).
* **Edit head and UNet** train: all their activations are kept.
* **Vision tower, projector, autoencoder** are frozen and nothing before them trains: nothing is kept.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mgie_lit.doctor.parts import ELSEWHERE, part_modules
from mgie_lit.doctor.precision import Precision
from mgie_lit.functional.operations import operations
from mgie_lit.types import EditBatch, EditDraws

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from mgie_lit.editor import Editor, Objective


@dataclass(frozen=True, slots=True)
class StepShape:
    """How large the batch of one process is."""

    batch_size: int  # examples
    length: int  # tokens of each row
    num_labels: int  # of the tokens of all rows, those that a language model has to write
    resolution: int  # pixels, side of the images


@dataclass(frozen=True, slots=True)
class DryRun:
    """What one forward and backward of a batch takes; bytes without weights, gradients and optimizer states."""

    kept: dict[str, int]  # bytes kept for the backward, by part
    peak: int  # bytes of everything that is alive at once: what is kept, and temporary results
    flops_forward: int  # operations of the batch, a multiply-add counts as two
    flops_backward: int

    @property
    def kept_total(self) -> int:
        """Bytes kept for the backward."""
        return sum(self.kept.values())

    @property
    def flops(self) -> int:
        """Operations of forward and backward."""
        return self.flops_forward + self.flops_backward


def dry_run(editor: Editor, objective: Objective, shape: StepShape, precision: Precision, *, is_cuda: bool) -> DryRun:
    """Do one forward and backward of a batch without numbers.

    Args:
        editor: On any device. Its weights are replaced by fake ones, so it is of no use afterwards.
        objective: Weights of the losses.
        shape: Of the batch; all rows have the same length.
        precision: Number types, as the trainer would have them.
        is_cuda: Whether the step is to run on a CUDA GPU, where mixed precision computes norms in float32.

    Returns:
        Bytes and operations; optimizer step, communication and the libraries' own workspaces are not in it.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        _fake_tensors(editor, precision)
        if editor.unet.is_gradient_checkpointing:  # norms as on a GPU are not to be had in what is computed again
            editor.unet.enable_gradient_checkpointing(
                partial(checkpoint, use_reentrant=False, determinism_check="none")
            )
        batch, draws = _fake_batch(editor, shape)
        parts = _PartStack()
        with parts.watch(editor), _StepWatch() as watch:
            kept = _KeptBytes(editor, parts)
            with _mixed(precision, is_cuda=is_cuda), saved_tensors_hooks(kept.pack, _as_it_is):
                loss = editor.losses(batch, draws, objective).loss
            kept_by_part, flops_forward = dict(kept.by_part), watch.flops
            del kept  # it holds on to what the backward lets go
            loss.backward()  # type: ignore[no-untyped-call]
    return DryRun(kept_by_part, watch.peak, flops_forward, watch.flops - flops_forward)


class _PartStack:
    """Which part is computing."""

    def __init__(self) -> None:
        self._labels: list[str] = []

    @property
    def current(self) -> str:
        return self._labels[-1] if self._labels else ELSEWHERE

    @contextmanager
    def watch(self, editor: Editor) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        for label, part in part_modules(editor):
            handles.append(part.register_forward_pre_hook(self._entering(label)))
            handles.append(part.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, label: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: Any) -> None:  # noqa: ANN401
            self._labels.append(label)

        return enter

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401
        self._labels.pop()


class _KeptBytes:
    """Storages that the graph keeps for the backward; the weights themselves are none of them."""

    def __init__(self, editor: Editor, parts: _PartStack) -> None:
        self.by_part: Counter[str] = Counter()
        self._parts = parts
        self._seen = {_key(tensor) for tensor in (*editor.parameters(), *editor.buffers())}
        self._tensors: list[Tensor] = []  # hold on to them: a storage's address could be used again

    def pack(self, tensor: Tensor) -> Tensor:
        key = _key(tensor)
        if key not in self._seen:
            self._seen.add(key)
            self._tensors.append(tensor)
            self.by_part[self._parts.current] += tensor.untyped_storage().nbytes()
        return tensor


class _StepWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations, and the bytes of all storages that were made inside and are still used."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.peak = 0  # most bytes there were at once
        self._now = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.flops += operations(func, args, kwargs, result)
        given = {_key(tensor) for tensor in _tensors_in((args, tuple(kwargs.values())))}
        for tensor in _tensors_in((result,)):
            if (key := _key(tensor)) not in given and key not in self._alive:
                self._add(key, tensor.untyped_storage())
        return result

    def _add(self, key: int, storage: torch.UntypedStorage) -> None:
        num_bytes = storage.nbytes()

        def forget(_: Any) -> None:  # noqa: ANN401
            del self._alive[key]
            self._now -= num_bytes

        self._alive[key] = weakref.ref(storage, forget)
        self._now += num_bytes
        self.peak = max(self.peak, self._now)


class _Float32Norms(TorchFunctionMode):
    """CUDA's mixed precision computes these in float32; the CPU's, under which the dry run stands, does not."""

    _functions = (F.group_norm, F.layer_norm, torch.group_norm, torch.layer_norm, F.softmax, torch.softmax)

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func in self._functions and args and isinstance(args[0], Tensor):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors_in(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors_in(value)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@contextmanager
def _mixed(precision: Precision, *, is_cuda: bool) -> Iterator[None]:
    """Autocast as the trainer's; the dry run's tensors are the CPU's."""
    if precision.autocast is None:
        yield
        return
    with torch.autocast("cpu", precision.autocast), _Float32Norms() if is_cuda else nullcontext():
        yield


def _fake_tensors(editor: Editor, precision: Precision) -> None:
    """Weights, gradients (as in the second of several batches of a step) and buffers without numbers, in place."""
    for module in editor.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                dtype = precision.of_weights(parameter.dtype)
                if precision.autocast is not None and dtype == torch.float16:
                    dtype = torch.float32  # a frozen tower in half precision keeps nothing; the CPU can not mix it
                fake = nn.Parameter(torch.empty(parameter.shape, dtype=dtype), requires_grad=parameter.requires_grad)
                fake.grad = torch.empty_like(fake) if fake.requires_grad else None
                module._parameters[name] = fake
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=precision.of_weights(buffer.dtype))


def _fake_batch(editor: Editor, shape: StepShape) -> tuple[EditBatch, EditDraws]:
    size, length, side = shape.batch_size, shape.length, shape.resolution
    latents = (size, *editor.latent_shape(side, side))
    rows = torch.zeros(size, length, dtype=torch.int64)
    tower = getattr(getattr(editor.guide, "mllm", None), "vision_tower", None)
    seen = 0 if tower is None else int(tower.config.image_size)
    batch = EditBatch(
        sample_ids=[str(index) for index in range(size)],
        instructions=["make it look like a painting"] * size,
        expressive_instructions=["the picture looks like an oil painting"] * size,
        source=torch.empty(size, 3, side, side),
        target=torch.empty(size, 3, side, side),
        mllm_pixels=torch.empty(size, 3, seen, seen),
        input_ids=rows,
        attention_mask=torch.ones(size, length, dtype=torch.bool),
        labels=rows.clone(),
        label_positions=torch.zeros(shape.num_labels, dtype=torch.int64),
        visual_token_start=torch.ones(size, dtype=torch.int64),
    )
    draws = EditDraws(
        noise=torch.empty(latents),
        latent_noise=torch.empty(latents),
        timesteps=torch.zeros(size, dtype=torch.int64),
        condition_dropout=torch.empty(size),
    )
    return batch, draws
