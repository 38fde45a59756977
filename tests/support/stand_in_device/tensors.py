"""Tensors that claim to be on a CUDA device, and the dispatch of operations on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, Self

import torch
from torch import Tensor
from torch._ops import OpOverload

from tests.support.stand_in_device.machine import HostCopyError, Machine, MixedDevicesError, StandInError
from tests.support.stand_in_device.streams import PendingCopy

aten = torch.ops.aten

HOST = torch.device("cpu")

_NO_KERNEL = {
    aten._unsafe_view.default,
    aten._reshape_alias.default,
    aten.lift_fresh.default,
    aten.lift.default,
    aten.is_same_size.default,
    aten._has_same_storage_numel.default,
}
"""Operations on descriptions of tensors, in addition to the views."""

_ALLOCATIONS = {aten.empty_like.default, aten.new_empty.default, aten.new_empty_strided.default}

_WAITING = {aten._linalg_eigh.default, aten._linalg_svd.default, aten._linalg_solve_ex.default}
"""Operations that wait for the device because the host reads an error code."""

_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
_RESIZING = {aten.resize_.default, aten.set_.source_Tensor, aten.set_.source_Storage_storage_offset}
_STAYS_ZERO = {aten.mul.Scalar}


class DeviceTensor(Tensor):
    """A tensor on a stand-in device; ``host`` is the tensor in whose memory its values really are."""

    host: Tensor
    zero: bool
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, host: Tensor, device: torch.device, *, zero: bool = False) -> Self:
        keys: dict[str, Any] = (
            {"_extra_dispatch_keys": torch._C.DispatchKeySet(torch._C.DispatchKey.ZeroTensor)} if zero else {}
        )
        tensor: Self = Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=device,
            **keys,
        )
        tensor.host, tensor.zero = host, zero
        return tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: OpOverload, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        return dispatch(func, tuple(args), dict(kwargs or {}))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype}, {self.device})"

    def tolist(self) -> Any:
        """The values as nested lists, which PyTorch refuses for subclasses."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> NoReturn:
        """Raise, as for a tensor on a GPU."""
        raise TypeError(f"can't convert {self.device} device type tensor to numpy: use Tensor.cpu() first")

    def untyped_storage(self) -> torch.UntypedStorage:
        """The memory, which views share."""
        return self.host.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        memo[id(self)] = copy = self.detach().clone().requires_grad_(self.requires_grad)
        return copy


@dataclass(frozen=True)
class Traits:
    """The properties of an operation that decide how a device carries it out."""

    is_composite: bool
    is_view: bool
    is_kernel: bool
    waits: bool
    is_random: bool
    written: tuple[int, ...]
    written_names: tuple[str, ...]


@cache
def traits(func: OpOverload) -> Traits:
    """The traits of an operation."""
    tags, arguments = func.tags, func._schema.arguments
    changed = [
        (place, argument.name, argument.kwarg_only)
        for place, argument in enumerate(arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return Traits(
        is_composite=torch._C._dispatch_has_kernel_for_dispatch_key(str(func._name), "CompositeImplicitAutograd"),
        is_view=func.is_view,
        is_kernel=not func.is_view and func not in _NO_KERNEL | _ALLOCATIONS,
        waits=func in _WAITING
        or (
            func not in _INDEXING
            and bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(tags))
        ),
        is_random=torch.Tag.nondeterministic_seeded in tags,
        written=tuple(place for place, _, by_name in changed if not by_name),
        written_names=tuple(name for _, name, _ in changed),
    )


def flatten(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among values, lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from flatten(value)


def replace_tensors(value: Any, by: Callable[[Tensor], Any]) -> Any:
    """The value with each tensor in it replaced."""
    if isinstance(value, Tensor):
        return by(value)
    if isinstance(value, (list, tuple)):
        return type(value)([replace_tensors(each, by) for each in value]) if type(value) in {list, tuple} else value
    return value


def dispatch(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Carry out an operation that has a :class:`DeviceTensor` among its arguments."""
    machine = Machine.current()
    if traits(func).is_composite:
        return func.decompose(*args, **kwargs)
    if func is aten._local_scalar_dense.default:
        machine.sync("reading a value", args[0].device)
        return func(args[0].host)
    if func is aten.copy_.default:
        return copy(machine, *args, **kwargs)
    if func is aten._to_copy.default and kwargs.get("device") is not None:
        return _copy_to(machine, args[0], **kwargs)
    if torch.Tag.inplace_view in func.tags:
        return _change_view(func, args)
    return _compute(machine, func, args, kwargs)


def _change_view(func: OpOverload, args: tuple[Any, ...]) -> object:
    """Change the shape or the strides of a tensor in place."""
    if func in _RESIZING:
        raise NotImplementedError(f"the stand-in device does not support {func}")
    func(args[0].host, *args[1:])
    with torch._C._DisableTorchDispatch():
        return func(*args)


def _compute(machine: Machine, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Carry out an operation on the device of its arguments."""
    tensors = [*flatten(args), *flatten(kwargs.values())]
    device = _indexing_device(machine, args, tensors) if func in _INDEXING else _common_device(func, tensors)
    if kwargs.get("device") is not None:
        target, kwargs["device"] = kwargs["device"], HOST
        if target.type == "cpu" or machine.indexed(target) != device:
            raise MixedDevicesError(f"{func} creates a tensor on {target} from one on {device}")
    capture = machine.current_stream(device).capture

    def unwrap(tensor: Tensor) -> Tensor:
        if capture is not None and not tensor.is_cuda:
            return capture.constant(tensor)
        return _host(tensor)

    owners = {id(each.host): each for each in tensors if isinstance(each, DeviceTensor)}
    zero = bool(args) and isinstance(args[0], DeviceTensor) and args[0].zero
    stays_zero = zero and (func.is_view or func in _STAYS_ZERO)
    out = execute(
        machine,
        device,
        func,
        tuple(replace_tensors(each, unwrap) for each in args),
        {name: replace_tensors(each, unwrap) for name, each in kwargs.items()},
    )

    def wrap(host: Tensor) -> Tensor:
        return owners[id(host)] if id(host) in owners else DeviceTensor(host, device, zero=stays_zero)

    return replace_tensors(out, wrap)


def _host(tensor: Tensor) -> Tensor:
    return tensor.host if isinstance(tensor, DeviceTensor) else tensor


def execute(
    machine: Machine, device: torch.device, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Execute an operation of a device on host tensors, or record it if the current stream is captured."""
    what, stream = traits(func), machine.current_stream(device)
    if what.is_random:
        refuse_random(func, kwargs.get("generator"))
    if what.waits:
        machine.sync(str(func), device)
    if not what.is_kernel:
        out = func(*args, **kwargs)
        if stream.capture is not None and not what.is_view:
            stream.capture.keep(flatten([out]))
        return out
    for call in machine.before_kernel:
        call(func)
    if stream.capture is not None:
        return stream.capture.record(func, args, kwargs)
    machine.stray(stream, func)
    inputs = [*flatten(args), *flatten(kwargs.values())]
    time = machine.launch(stream, inputs, written(func, args, kwargs))
    out = func(*args, **kwargs)
    count_launch(machine, func)
    known = {id(each) for each in inputs}
    for each in flatten([out]):
        if id(each) not in known:
            machine.note_new(stream, time, each)
    return out


def count_launch(machine: Machine, func: OpOverload) -> None:
    """Count one kernel that the host launches."""
    machine.counts.kernels[str(func)] += 1
    machine.counts.launches += 1


def written(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among the arguments that an operation changes."""
    what = traits(func)
    places = [args[place] for place in what.written if place < len(args)]
    return list(flatten([*places, *(kwargs[name] for name in what.written_names if name in kwargs)]))


def refuse_random(func: object, generator: torch.Generator | None) -> None:
    """Raise for random numbers on a device: those of the engine come from generators on the host."""
    if generator is not None and generator.device.type != "cuda":
        raise MixedDevicesError(f"{func}: expected a 'cuda' device type for generator but found 'cpu'")
    raise StandInError(f"{func} draws random numbers on a device")


def _common_device(func: OpOverload, tensors: Sequence[Tensor]) -> torch.device:
    """The device of all tensors. Only a single number may be on the host."""
    devices = {each.device for each in tensors if each.is_cuda}
    if len(devices) > 1 or any(not each.is_cuda and each.dim() for each in tensors):
        places = [f"{tuple(each.shape)} on {each.device}" for each in tensors]
        raise MixedDevicesError(f"{func}: {', '.join(places)}")
    (device,) = devices
    return device


def _indexing_device(machine: Machine, args: Sequence[Any], tensors: Sequence[Tensor]) -> torch.device:
    """The device of an indexing operation. Indices on the host are copied; a mask waits for the device."""
    if not args[0].is_cuda:
        raise MixedDevicesError(f"a tensor on {args[0].device} is indexed by one on {tensors[-1].device}")
    indices = [each for each in args[1] if each is not None]
    if any(not index.is_cuda for index in indices):
        machine.sync("indexing by a host tensor", args[0].device)
    if any(index.dtype in {torch.bool, torch.uint8} for index in indices):
        machine.sync("indexing by a mask", args[0].device)
    others = [each for each in tensors if all(each is not index for index in indices)]
    return _common_device(aten.index.Tensor, [*others, *(index for index in indices if index.is_cuda)])


# -- copies between devices and host --------------------------------------------------------------------------


def copy(machine: Machine, to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """Carry out ``to.copy_(source)``."""
    if to.is_cuda and source.is_cuda:
        _copy_on_devices(machine, to, source)
    elif to.is_cuda:
        _copy_to_device(machine, to, source, non_blocking=non_blocking)
    else:
        _copy_to_host(machine, to, source, non_blocking=non_blocking)
    return to


def _copy_on_devices(machine: Machine, to: Tensor, source: Tensor) -> None:
    stream, other = machine.current_stream(to.device), machine.current_stream(source.device)
    if stream is not other:
        stream.wait_stream(other)
    execute(machine, to.device, aten.copy_.default, (_host(to), _host(source)), {})
    if stream is not other:
        other.wait_stream(stream)


def _copy_to_device(machine: Machine, to: Tensor, source: Tensor, *, non_blocking: bool) -> None:
    pinned = machine.is_pinned(source)
    if non_blocking and not pinned:
        raise HostCopyError(f"an asynchronous copy to {to.device} from memory that is not pinned waits for the device")
    if not non_blocking:
        machine.sync("copying to a device", to.device)
    machine.refuse_in_capture("copying to a device")
    stream = machine.current_stream(to.device)
    machine.launch(stream, [], [_host(to)])
    _host(to).copy_(source)
    if non_blocking:
        stream.pending.append(PendingCopy(source, source.clone(), to_host=False))


def _copy_to_host(machine: Machine, to: Tensor, source: Tensor, *, non_blocking: bool) -> None:
    if non_blocking and not machine.is_pinned(to):
        raise HostCopyError(f"an asynchronous copy from {source.device} to memory that is not pinned")
    machine.refuse_in_capture("copying to the host")
    stream = machine.current_stream(source.device)
    machine.launch(stream, [_host(source)], [])
    if non_blocking:
        stream.pending.append(PendingCopy(to, _host(source).to(to.dtype, copy=True), to_host=True))
    else:
        machine.sync("copying to the host", source.device)
        to.copy_(_host(source))


def _copy_to(
    machine: Machine, source: DeviceTensor, *, device: torch.device, non_blocking: bool = False, **kwargs: Any
) -> Tensor:
    """The copy of a tensor on a device that was given."""
    kwargs.pop("pin_memory", None)
    if device.type == "meta":
        return torch.empty_like(source.host, dtype=kwargs.get("dtype"), device=device)
    if device.type == "cpu":
        host = torch.empty_like(source.host, dtype=kwargs.get("dtype"))
        return copy(machine, machine.pin(host) if non_blocking else host, source, non_blocking)
    target = machine.indexed(device)
    if target == source.device:
        out = execute(machine, target, aten._to_copy.default, (source.host,), kwargs)
        return DeviceTensor(out, target)
    moved = DeviceTensor(torch.empty_like(source.host, dtype=kwargs.get("dtype")), target)
    machine.note_new(machine.current_stream(target), 0, moved.host)
    _copy_on_devices(machine, moved, source)
    return moved
