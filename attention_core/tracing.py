"""One layer of a pass, watched from inside: what entered it, what its modules made of that, what it handed on.

Hooks on a copy of the module tree that shares every tensor; the pass ends with the layer. No architecture is named: a
layer is what the outermost list of modules around the attention holds.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .checking import self_check
from .errors import HeadlightError
from .layer import LayerCapture
from .record import tensors_in
from .seam import OwnCall, Recorder, recording, shadow


@dataclass(frozen=True, eq=False)
class Call:
    """One module that ran inside the layer."""

    name: str  # inside the layer: "self_attn.q_proj"
    module: nn.Module
    given: Tensor  # (tokens, width), the vectors of several heads as one
    made: Tensor  # (tokens, width)
    shape: torch.Size = torch.Size()  # of what it was given

    def again(self, given: Tensor) -> Tensor:
        """The module on other numbers, (tokens, width) → (tokens, width)."""
        tokens = len(given)
        if len(self.shape) == 4 and self.shape[1] != tokens:  # (1, heads, tokens, head_dim)
            given = given.reshape(tokens, self.shape[1], -1).transpose(0, 1)[None]
        else:
            given = given.reshape(self.shape)
        with torch.no_grad():
            rows = _as_rows(self.module(given.to(self.made.dtype)), {tokens})
        assert rows is not None
        return rows


@dataclass(frozen=True, eq=False)
class Part:
    """One of the layer's own parts, in the order in which they ran."""

    name: str
    kind: str  # "attention", "norm" or "feed-forward"
    made: Tensor  # (tokens, hidden)


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened in a layer around one call of its attention; tokens: of the side that looks, where not said."""

    layer: LayerCapture  # the call itself, in this pass
    block: str  # the layer's name in the model
    attention: str  # the attention module's name in the layer
    hidden: Tensor  # (tokens, hidden) what enters the attention module
    before: list[Call]  # the modules that ran in the layer until the attention was computed
    after: list[Call]
    own: OwnCall
    turning: tuple[Tensor, Tensor] | None  # (tokens, width) cos and sin, as the attention module got them
    turns: tuple[Tensor, Tensor] | None  # the same for positions 0 …, by the model's own rotary module
    added: tuple[str, Tensor] | None  # the module that numbers positions, and (tokens, width) what it gave
    entered: Tensor  # (tokens, hidden) the residual stream before the layer
    left: Tensor  # (tokens, hidden) and after it
    parts: list[Part]
    again: Callable[[Tensor], Tensor]  # (tokens, heads, head_dim) in place of the blended values → another `left`

    @property
    def nbytes(self) -> int:
        calls = [tensor for call in (*self.before, *self.after) for tensor in (call.given, call.made)]
        held = [self.hidden, self.entered, self.left, self.own.output, *calls, *tensors_in(vars(self.layer))]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}.values())


def trace(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    entry: int,
    module: str,
    on_layer: Callable[[int], None] | None = None,
) -> Trace:
    """Run a model up to one call of its attention → Trace.

    entry, module: the call's place in capture.layers and its `module`; inputs: as in capture.inputs.
    Raises HeadlightError for a model that hands out its weights alone.
    """
    check = self_check(model)
    if check.reason:
        raise HeadlightError(f"Only the weights of this model can be seen: {check.reason}")
    watch = _Watch(shadow(model, check.implementation), entry, module, on_layer)
    try:
        with torch.no_grad(), recording(watch.recorder):
            watch.model(**inputs)
    except _Done:
        return watch.result()
    raise HeadlightError(f"The layer “{watch.block_name}” did not run as it did when the text was read.")


def block_of(modules: Mapping[str, nn.Module], name: str) -> str:
    """The outermost element of a list of modules on the way to the attention; without one, the module around it."""
    path = name.split(".")
    for depth in range(1, len(path)):
        if isinstance(modules[".".join(path[:depth])], nn.ModuleList):
            return ".".join(path[: depth + 1])
    return ".".join(path[:-1])


class _Done(Exception):
    """The layer is finished: the rest of the pass is not needed."""


class _Watch:
    """The hooks of one pass, and what they saw. model: a copy of the module tree of its own."""

    def __init__(self, model: PreTrainedModel, entry: int, name: str, on_layer: Callable[[int], None] | None):
        modules = dict(model.named_modules())
        if name not in modules:
            raise HeadlightError(f"The module “{name}” that attends is not a part of this model.")
        self.model, self.entry, self.on = model, entry, True
        self.block_name = block_of(modules, name)
        self.block, self.attention = modules[self.block_name], name.removeprefix(self.block_name).strip(".")
        self.recorder = Recorder(model, 0, False, on_layer)
        self.recorder.instead = self._attended
        self.rotary: list[tuple[nn.Module, tuple, dict, Any]] = []
        self.numbered: list[tuple[str, Tensor]] = []
        self._opened((), {})
        self._set_hooks(modules, modules[name])

    def _set_hooks(self, modules: Mapping[str, nn.Module], attention: nn.Module) -> None:
        def before(module: nn.Module, seen: Callable[..., None]) -> None:
            module.register_forward_pre_hook(
                lambda module, args, kwargs: seen(args, kwargs) if self.on else None, with_kwargs=True
            )

        def after(module: nn.Module, seen: Callable[..., None], *more: str) -> None:
            module.register_forward_hook(
                lambda module, *run: seen(*more, module, *run) if self.on else None, with_kwargs=True
            )

        stack, words = self.block_name.rpartition(".")[0], self.model.get_input_embeddings()
        before(self.block, self._opened)
        before(attention, self._attends)
        for name, module in self.block.named_modules():
            if name:
                after(module, self._ran, name)
        for name, module in children_of(self.block):
            if any(True for _ in module.parameters()):
                after(module, self._part_ran, name, self._kind(name, module))
        after(self.block, self._closed)
        for name, module in modules.items():
            if name and not f"{name}.".startswith(f"{stack}.") and module is not words:
                after(module, self._ran_outside, name)

    def _kind(self, name: str, module: nn.Module) -> str:
        if f"{self.attention}.".startswith(f"{name}."):
            return "attention"
        names = [type(part).__name__.lower() for part in module.modules()]
        if "norm" in names[0] and len(names) == 1:  # RobertaPreLayerNormOutput is none
            return "norm"
        return "attention" if any("attention" in name for name in names) else "feed-forward"

    # ── hooks ──

    def _opened(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """The layer begins: whatever an earlier run of it left is forgotten."""
        self.args, self.kwargs, self.first_call = args, kwargs, len(self.recorder.layers)
        self.calls: list[Call] = []
        self.parts: list[Part] = []
        self.given: tuple[tuple, dict[str, Any]] = (), {}
        self.wanted: tuple[OwnCall, LayerCapture, int, tuple[tuple, dict[str, Any]]] | None = None

    def _attends(self, args: tuple, kwargs: dict[str, Any]) -> None:
        self.given = args, kwargs

    def _attended(self, number: int, output: Tensor) -> Tensor:
        """Called by the seam."""
        if number == self.entry and self.recorder.call is not None:
            self.wanted = self.recorder.call, self.recorder.layers[-1], len(self.calls), self.given
        return output

    def _ran(self, name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        given, made = _first((*args, *kwargs.values())), _first(output)
        if given is not None and made is not None and made is not given:
            self.calls.append(Call(name, module, given, made))

    def _part_ran(self, name: str, kind: str, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        made = output[0] if isinstance(output, tuple | list) else output
        if isinstance(made, Tensor) and made.is_floating_point() and made.ndim in (2, 3):  # (tokens, hidden) in OPT
            self.parts.append(Part(name, kind, made.reshape(-1, made.shape[-1])))

    def _ran_outside(self, name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if _is_pair(output):
            self.rotary.append((module, args, kwargs, output))
        last = name.rpartition(".")[2].lower()
        if isinstance(output, Tensor) and output.ndim in (2, 3) and re.search("pos(?!t)|wpe", last):
            self.numbered.append((name, output.reshape(-1, output.shape[-1])))

    def _closed(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if self.wanted is not None:
            self.left = _first(output)
            raise _Done

    # ── afterwards ──

    def result(self) -> Trace:
        self.on = False
        assert self.wanted is not None and self.left is not None
        own, layer, split, (args, kwargs) = self.wanted
        queries, keys = own.query.shape[2], own.key.shape[2]
        entered, hidden = _first((*self.args, *self.kwargs.values())), _first((*args, *kwargs.values()))
        assert entered is not None and hidden is not None
        turning = _turning(args, kwargs, queries)
        calls = [_in_rows(call, {queries, keys}) for call in self.calls]
        return Trace(
            layer=layer,
            block=self.block_name,
            attention=self.attention,
            hidden=hidden[0],
            before=[call for call in calls[:split] if call is not None],
            after=[call for call in calls[split:] if call is not None],
            own=own,
            turning=turning,
            turns=self._turns(turning) if turning is not None else None,
            added=self._added(queries),
            entered=entered[0],
            left=self.left[0],
            parts=[part for part in self.parts if len(part.made) == queries],
            again=self._again,
        )

    def _turns(self, turning: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
        """cos and sin of the positions 0 … of twice the text, by the rotary module that gave this layer's."""
        tokens, count = len(turning[0]), max(128, 2 * len(turning[0]))
        for module, args, kwargs, output in self.rotary:
            if not torch.equal(_table(output[0]), turning[0]):
                continue

            def moved(given: Any) -> Any:
                if not isinstance(given, Tensor) or given.is_floating_point() or given.shape[-1:] != (tokens,):
                    return given
                return torch.arange(count, device=given.device).expand(*given.shape[:-1], count)

            with torch.no_grad():
                turns = module(*map(moved, args), **{name: moved(given) for name, given in kwargs.items()})
            tables = _table(turns[0]), _table(turns[1])
            return tables if len(tables[0]) == count and torch.allclose(tables[0][:tokens], turning[0]) else None
        return None

    def _added(self, tokens: int) -> tuple[str, Tensor] | None:
        """The positions that were numbered for this side of the model."""
        own = {part for part in ("encoder", "decoder") if part in self.block_name.split(".")}
        fitting = [(name, made) for name, made in self.numbered if len(made) == tokens]
        of_side = [(name, made) for name, made in fitting if own & set(name.split("."))]
        chosen = of_side or fitting
        return chosen[-1] if chosen else None

    def _again(self, blended: Tensor) -> Tensor:
        """The layer run once more with other blended values: all that follows the attention, by the model's modules."""
        place = self.entry - self.first_call
        recorder = Recorder(self.model, 0, False, None)
        recorder.instead = lambda number, output: (
            blended.to(output).reshape(output.shape) if number == place else output
        )
        args = tuple(_without_cache(given) for given in self.args)
        kwargs = {name: _without_cache(given) for name, given in self.kwargs.items()}
        with torch.no_grad(), recording(recorder):
            left = _first(self.block(*args, **kwargs))
        assert left is not None
        return left[0]


def children_of(block: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layer's own parts by name; lists are looked through, and so is a wrapper of one part."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in block.named_children():
        if isinstance(module, nn.ModuleList):
            found += [(f"{name}.{number}", part) for number, part in module.named_children()]
        else:
            found.append((name, module))
    if len(found) == 1:
        outer, module = found[0]
        return [(f"{outer}.{name}", part) for name, part in children_of(module)] or found
    return found


def _first(things: Any) -> Tensor | None:
    """The first tensor of numbers with a batch, tokens and a width."""
    things = things if isinstance(things, tuple | list) else [things]
    return next((t for t in things if isinstance(t, Tensor) and t.is_floating_point() and t.ndim in (3, 4)), None)


def _in_rows(call: Call, counts: set[int]) -> Call | None:
    """The call with (tokens, width) arrays, the heads side by side; None where its arrays have other shapes."""
    given, made = _as_rows(call.given, counts), _as_rows(call.made, counts)
    return None if given is None or made is None else Call(call.name, call.module, given, made, call.given.shape)


def _as_rows(tensor: Tensor, counts: set[int]) -> Tensor | None:
    if tensor.shape[1] in counts:
        return tensor[0].reshape(tensor.shape[1], -1)
    if tensor.ndim == 4 and tensor.shape[2] in counts:  # (1, heads, tokens, head_dim)
        return tensor[0].transpose(0, 1).reshape(tensor.shape[2], -1)
    return None


def _is_pair(thing: Any) -> bool:
    pair = isinstance(thing, tuple | list) and len(thing) == 2
    return pair and all(isinstance(part, Tensor) and part.is_floating_point() and part.ndim > 1 for part in thing)


def _table(angles: Tensor) -> Tensor:
    """(1, tokens, width) or (1, 1, tokens, width) → (tokens, width)."""
    return angles.reshape(-1, angles.shape[-1])


def _turning(args: tuple, kwargs: dict[str, Any], tokens: int) -> tuple[Tensor, Tensor] | None:
    """cos and sin among what the attention module got: a pair of equal arrays, a row for each token."""
    for given in (*args, *kwargs.values()):
        if _is_pair(given) and given[0].shape == given[1].shape:
            cos, sin = _table(given[0]), _table(given[1])
            if len(cos) == tokens and float(cos[0].abs().max()) > 0:
                return cos, sin
    return None


def _without_cache(given: Any) -> Any:
    return None if hasattr(given, "get_seq_length") else given
