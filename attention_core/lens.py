"""The logit lens: what a decoder would write next if it stopped after each of its layers.

The residual stream after every layer is put through the model's own last norm and output head (nostalgebraist 2020,
"interpreting GPT: the logit lens"): it takes the place of the last layer's output, one layer a position, in a second
pass. Nothing of that end is named or written anew, so soft caps and scales of the logits are in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .errors import HeadlightError
from .recording import accepted_inputs
from .seam import shadow
from .tracing import block_of


@dataclass(frozen=True, eq=False)
class Lens:
    """The most likely next tokens after each layer."""

    ids: Tensor  # (layers, count)
    chances: Tensor  # (layers, count)
    difference: float  # of the last layer's scores from the model's own, as a share of the largest
    tokens: tuple[str, ...] = ()  # display strings of the ids, one after the other
    wanted: Tensor | None = None  # (layers, wanted tokens) their chances
    ranks: Tensor | None = None  # (layers, wanted tokens) 1: the most likely


def logit_lens(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    module: str,
    token: int,
    count: int = 5,
    wanted: Sequence[int] = (),
) -> Lens:
    """What would be written after `token`, layer by layer, in the stack that the attention `module` is in.

    inputs: as in capture.inputs. wanted: tokens whose chances are asked for, whatever they are.
    Raises HeadlightError for a model that does not write (an encoder).
    """
    if not model.can_generate():
        raise HeadlightError("An encoder does not write: it has no next token to guess. Choose a decoder.")
    twofold, whole = bool(model.config.is_encoder_decoder), dict(inputs)
    own = "decoder_input_ids" if twofold else "input_ids"
    text = {
        name: given[:, : token + 1] if name.startswith("decoder_") or not twofold else given
        for name, given in whole.items()
    }
    trims = {"logits_to_keep": 1} if "logits_to_keep" in accepted_inputs(model) else {}
    twin = shadow(model, model.config._attn_implementation)
    layers = stack_of(twin, module)
    streams: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda module, args, out: streams.append(_of(out)[0, -1])) for layer in layers]
    with torch.no_grad():
        scores = twin(**text, **trims).logits[0, -1].float()  # (vocabulary,)
        for hook in hooks:
            hook.remove()
        stacked = torch.stack(streams)[None]  # (1, layers, hidden)
        layers[-1].register_forward_hook(lambda module, args, output: _instead(output, stacked))
        places = text[own][:, :1].expand(1, len(streams))  # any tokens: their own vectors are not used
        source = {name: given for name, given in whole.items() if twofold and not name.startswith("decoder_")}
        seen = twin(**source, **{own: places}).logits[0].float()  # (layers, vocabulary)
    chances = seen.softmax(dim=-1)
    best = chances.topk(min(count, seen.shape[-1]), dim=-1)
    difference = float((seen[-1] - scores).abs().max() / scores.abs().max().clamp(min=1e-30))
    asked = chances[:, list(wanted)]  # (layers, wanted tokens)
    ranks = 1 + (seen[:, None] > seen[:, list(wanted), None]).sum(dim=-1)  # of scores: small chances are all 0
    return Lens(best.indices.cpu(), best.values.cpu(), difference, wanted=asked.cpu(), ranks=ranks.cpu())


def stack_of(model: PreTrainedModel, module: str) -> list[nn.Module]:
    """Every layer of the stack that the attention is in, in order."""
    modules = dict(model.named_modules())
    around = modules[block_of(modules, module).rpartition(".")[0]]
    if not isinstance(around, nn.ModuleList):
        raise HeadlightError("The layers of this model are no plain list, so they cannot be stopped at.")
    return list(around.children())


def _of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _instead(output: Any, streams: Tensor) -> Any:
    return streams if isinstance(output, Tensor) else (streams, *output[1:])
