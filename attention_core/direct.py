"""Direct logit attribution: which head and which layer wrote a token.

The residual stream at the last row is a sum: the token's own vector and what every head and feed-forward part added to
it. The last norm, with its scale as it was, and the output head are linear, so the target's logit is a sum over the
same parts (Elhage et al. 2021, "A mathematical framework for transformer circuits"; nostalgebraist 2020). A norm is
recognised by what it does to a few vectors; no architecture is named. What cannot be told apart stays together.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .checking import self_check
from .errors import HeadlightError
from .filling import MOST_SUBSETS, summands
from .lens import Lens, logit_lens, stack_of
from .projecting import output_projections, per_head
from .record import Capture
from .scorer import Scorer
from .seam import Recorder, recording, shadow
from .tracing import children_of
from .wiring import weight_of

EQUAL = 1e-4  # of the largest absolute value: two vectors are the same


@dataclass(frozen=True, eq=False)
class LayerPart:
    """What one layer added to the logit."""

    attention: float | None  # all heads and the projection's bias; None: not told apart from the rest of the layer
    heads: Tensor | None  # (heads,) float32
    rest: float  # the feed-forward part; the whole layer where attention is None

    @property
    def total(self) -> float:
        return (self.attention or 0.0) + self.rest


@dataclass(frozen=True, eq=False)
class Direct:
    """The target's logit (less that of the contrast), taken apart."""

    logit: float  # the model's own
    embedding: float  # what the token's vector at the row brings, positions that are added to it included
    layers: list[LayerPart]
    offset: float  # of the last norm and the output head: whatever was read
    capped: bool  # the model bends (or shifts) its logits after the output head: the parts sum to what it was before
    before: float  # the logit before that, or the same
    lens: Lens  # the chance of the target (and the contrast) after each layer

    @property
    def sum(self) -> float:
        return self.embedding + sum(part.total for part in self.layers) + self.offset

    @property
    def nbytes(self) -> int:
        return 4096


@dataclass(frozen=True, eq=False)
class Frozen:
    """A norm with its scale as it was for one vector: gain · (x − centre of x) + offset."""

    gain: Tensor  # (hidden,) float64
    centred: bool
    offset: Tensor  # (hidden,) float64

    def of(self, parts: Tensor) -> Tensor:
        """(…, hidden) → (…, hidden), without the offset."""
        return self.gain * (parts - parts.mean(dim=-1, keepdim=True) if self.centred else parts)


def frozen(norm: nn.Module, given: Tensor) -> Frozen | None:
    """A norm as it acts on parts of `given` (hidden,), found by what it makes of a few vectors; None: it is no norm."""

    def made(vector: Tensor) -> Tensor:
        with torch.no_grad():
            return norm(vector.to(given)[None, None])[0, 0].double()

    x = given.double()
    offset = (made(x) + made(-x)) / 2
    step = float(x.std(correction=0)) or 1.0
    centred = _same(made(x + step), made(x))
    size = float((x - x.mean() if centred else x).square().mean().sqrt())
    signs = torch.ones_like(x)
    signs[1::2] = -1
    if len(x) % 2:  # the last three so that the mean is 0 and the mean square 1 all the same
        signs[-3:] = torch.tensor([1.0, 1.0, -2.0]).to(signs) / 2**0.5
    gain = (made(size * signs) - offset) / (size * signs)
    found = Frozen(gain, centred, offset)
    return found if _same(found.of(x) + offset, made(x)) else None


@dataclass(eq=False)
class _Block:
    """What was seen of one layer, at the last row."""

    entered: Tensor | None = None  # (hidden,)
    left: Tensor | None = None
    parts: list[tuple[nn.Module, Tensor, Tensor]] = field(default_factory=list)  # module, given and made (hidden,)
    heads: list[tuple[int, Tensor]] = field(default_factory=list)  # the attention's place, (heads, value head_dim)


def direct(scorer: Scorer, capture: Capture) -> Direct:
    """Take the target's logit apart. capture: of the same text and model.

    Raises HeadlightError for an encoder, and where the end of the model is no norm and output head.
    """
    aim = scorer.aim
    if aim.kind != "next" or aim.target is None:
        raise HeadlightError("An encoder writes no token, so there is no logit to take apart. Choose a decoder.")
    module = next((layer.module for layer in reversed(capture.layers) if layer.kind == "decoder"), None)
    if module is None:
        raise HeadlightError(
            "This logit cannot be taken apart: the layers of this model look both ways. Choose a model that reads from "
            "left to right."
        )
    model = scorer.model
    if torch.finfo(model.dtype).eps > EQUAL:
        raise HeadlightError(
            f"This logit cannot be taken apart: the sums of {model.dtype} are too coarse. Load the model in float32."
        )
    seen = _Seen(shadow(model, self_check(model).implementation), module)
    inputs: dict[str, Tensor] = {"input_ids": scorer.ids, **scorer.inputs}
    logits = seen.run(inputs)  # (vocabulary,)
    wanted = [aim.target.id] + ([aim.contrast.id] if aim.contrast is not None else [])
    signs = torch.tensor([1.0, -1.0][: len(wanted)], dtype=torch.float64)
    end, direction, offset = seen.end(wanted, signs)
    before = seen.before(wanted, signs)
    own = float(logits[wanted].double().cpu() @ signs)
    stretch, capped = seen.stretch(logits)

    def share(parts: Tensor) -> Tensor:
        """(…, hidden) → (…,) of the logit"""
        return (end.of(parts.double()) if end is not None else parts.double()) @ direction * stretch

    names = output_projections(model)
    layers = [_layer_part(block, seen.modules, names, share) for block in seen.blocks]
    first = seen.blocks[0].entered
    assert first is not None
    row = scorer.aim.token
    lens = logit_lens(model, inputs, module, row, wanted=wanted)
    return Direct(
        logit=own,
        embedding=float(share(first)),
        layers=layers,
        offset=offset * stretch,
        capped=capped,
        before=before * stretch,
        lens=lens,
    )


def _layer_part(block: _Block, modules: dict[str, nn.Module], names: list[str | None], share: Any) -> LayerPart:
    assert block.entered is not None and block.left is not None
    whole = float(share(block.left.double() - block.entered.double()))
    number, blended = block.heads[0] if len(block.heads) == 1 else (len(names), torch.empty(0))
    name = names[number] if number < len(names) else None
    if name is None:
        return LayerPart(None, None, whole)
    mades = [made for _, _, made in block.parts]
    exact = summands(block.entered, block.left, mades, torch.finfo(block.left.dtype).eps)
    adds = _multiplied(block.entered, block.left, mades) if exact is None else dict.fromkeys(sorted(exact), 1.0)
    weight, bias = per_head(modules[name], len(blended)), getattr(modules[name], "bias", None)
    each = torch.einsum("nhd,hd->hn", weight.double(), blended.double())  # (heads, hidden)
    added = each.sum(dim=0) if bias is None else each.sum(dim=0) + bias.detach().double()
    for at, times in adds.items():
        norm, given, made = block.parts[at]
        if _same(made.double(), added):
            heads = share(each) * times
        elif _same(given.double(), added) and (fixed := frozen(norm, given)) is not None:
            heads = share(fixed.of(each)) * times
        else:
            continue
        attention = float(share(made)) * times
        return LayerPart(attention, heads.float().cpu(), whole - attention)
    return LayerPart(None, None, whole)


def _multiplied(entered: Tensor, left: Tensor, parts: list[Tensor]) -> dict[int, float]:
    """Which parts, all times one number (Granite's multiplier), are added to what entered; nothing: they do not fit."""
    change, found, nearest = left.double() - entered.double(), dict[int, float](), torch.inf
    limit = EQUAL * float(change.abs().max())
    fitting = [n for n, part in enumerate(parts[:MOST_SUBSETS]) if part.shape == left.shape]
    for chosen in range(1, 1 << len(fitting)):
        subset = [n for place, n in enumerate(fitting) if chosen >> place & 1]
        made = torch.stack([parts[n].double() for n in subset]).sum(dim=0)
        times = float(change @ made / made.square().sum().clamp(min=1e-30))
        apart = float((made * times - change).abs().max())
        if apart <= limit and apart < nearest:
            found, nearest = dict.fromkeys(subset, times), apart
    return found


class _Seen:
    """One pass over the stack of layers that writes, and what follows it."""

    def __init__(self, model: PreTrainedModel, module: str):
        self.model, self.blocks, self.at = model, [], -1  # type: PreTrainedModel, list[_Block], int
        self.modules = dict(model.named_modules())
        stack = stack_of(model, module)
        self.after: list[tuple[nn.Module, Tensor, Tensor]] = []  # modules behind the stack: given and made (hidden,)
        self.head_given: Tensor | None = None
        self.hooks: list[Any] = []
        hooks = self.hooks
        for number, block in enumerate(stack):
            self.blocks.append(_Block())
            hooks.append(block.register_forward_pre_hook(self._opens(number), with_kwargs=True))
            hooks += [
                part.register_forward_hook(self._part(number), with_kwargs=True) for _, part in children_of(block)
            ]
            hooks.append(block.register_forward_hook(self._closes(number)))
        inside = {id(part) for block in stack for part in block.modules()}
        self.head = cast(Any, model).get_output_embeddings()
        for part in model.modules():
            if id(part) not in inside and part is not self.head and not list(part.children()):
                hooks.append(part.register_forward_hook(self._behind))
        if self.head is not None:
            hooks.append(self.head.register_forward_pre_hook(self._heads_on, with_kwargs=True))

    def run(self, inputs: dict[str, Tensor]) -> Tensor:
        recorder = Recorder(self.model, 0, False, None)

        def attended(number: int, output: Tensor) -> Tensor:
            if self.at >= 0:
                self.blocks[self.at].heads.append((number, output[0, -1]))  # (heads, value head_dim)
            return output

        recorder.instead = attended
        with torch.no_grad(), recording(recorder):
            logits = cast(Any, self.model)(**inputs).logits[0, -1].float()
        for hook in self.hooks:  # the modules will be asked again what they make of other vectors
            hook.remove()
        return logits

    def end(self, wanted: list[int], signs: Tensor) -> tuple[Frozen | None, Tensor, float]:
        """The last norm, frozen (None: there is none); the direction (hidden,) that the output head reads behind it;
        and what both add whatever was read."""
        left, given = self.blocks[-1].left, self.head_given
        weight = None if self.head is None else weight_of(self.head)
        if left is None or given is None or weight is None:
            raise HeadlightError(NO_END)
        bias = getattr(self.head, "bias", None)
        direction = weight.detach()[wanted].double().T @ signs.to(weight.device)  # (hidden,)
        own = 0.0 if bias is None else float(bias.detach()[wanted].double().cpu() @ signs)
        if given.shape == left.shape and _same(given.double(), left.double()):
            return None, direction, own
        for module, came, made in self.after:
            if came.shape != left.shape or not _same(came.double(), left.double()) or made.shape != given.shape:
                continue
            times = float(given.double() @ made.double() / made.double().square().sum().clamp(min=1e-30))
            if _same(made.double() * times, given.double()) and (fixed := frozen(module, came)) is not None:
                return fixed, direction * times, own + float(fixed.offset @ direction) * times
        raise HeadlightError(NO_END)

    def before(self, wanted: list[int], signs: Tensor) -> float:
        """The logit as the output head gives it."""
        assert self.head_given is not None
        with torch.no_grad():
            made = self.head(self.head_given[None])[0, wanted]
        return float(made.double().cpu() @ signs)

    def stretch(self, logits: Tensor) -> tuple[float, bool]:
        """What the model multiplies its logits by after the output head, and whether it bends them instead."""
        assert self.head_given is not None
        with torch.no_grad():
            made = self.head(self.head_given[None])[0].double()
        times = float(made @ logits.double() / made.square().sum().clamp(min=1e-30))
        return (times, False) if _same(made * times, logits.double()) else (1.0, True)

    # ── hooks ──

    def _opens(self, number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.at, self.after = number, []
            given = _first((*args, *kwargs.values()))
            self.blocks[number].entered = None if given is None else _row(given)

        return hook

    def _closes(self, number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.blocks[number].left, self.at = _row(output if isinstance(output, Tensor) else output[0]), -1

        return hook

    def _part(self, number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = _first((*args, *kwargs.values()))
            made = output if isinstance(output, Tensor) else output[0] if output else None
            if given is not None and isinstance(made, Tensor) and made.is_floating_point() and made.ndim in (2, 3):
                self.blocks[number].parts.append((module, _row(given), _row(made)))

        return hook

    def _heads_on(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = _first((*args, *kwargs.values()))
        self.head_given = None if given is None else _row(given)

    def _behind(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and args[0].is_floating_point() and isinstance(output, Tensor):
            self.after.append((module, _row(args[0]), _row(output)))


NO_END = (
    "This logit cannot be taken apart: what follows the last layer is no norm and output head. "
    "The bars above hold for this model all the same."
)


def _first(things: tuple[Any, ...]) -> Tensor | None:
    """The first tensor of numbers."""
    return next((t for t in things if isinstance(t, Tensor) and t.is_floating_point()), None)


def _row(tensor: Tensor) -> Tensor:
    """(hidden,) the last row, of (1, tokens, hidden) or (tokens, hidden)."""
    return tensor.detach().reshape(-1, tensor.shape[-1])[-1]


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return float((one - other).abs().max()) <= EQUAL * max(float(other.abs().max()), 1e-30)
