"""Well-known models and real devices as tables, each with its public source. Runs no model; knows no pages."""

import re

from ..known_models import KNOWN
from ..roofline import DEVICES
from .cache_figures import short
from .growing import MOST, WIDTHS, Growing, amount, known
from .step import Table


def known_table(tokens: int, bits: int, batch: int) -> Table:
    """KNOWN at so many tokens: bytes by width, and the devices with room for the cache alone, of the given width."""
    header = ("model", "year", "attention", "reads at most", f"a token, {WIDTHS[bits]}", *WIDTHS.values())
    rows = []
    for entry in KNOWN:
        model = known(entry.name)
        sizes = [amount(model.bytes(tokens, width, batch)) for width in WIDTHS]
        short = f"{entry.context:,}: too few" if tokens > entry.context else f"{entry.context:,}"
        room = _room(model.bytes(tokens, bits, batch))
        named = (entry.name, str(entry.year), _attention(model), short, _a_token(model, bits))
        rows.append((*named, *sizes, room, _short(entry.source)))
    return Table((*header, f"room, {WIDTHS[bits]}", "source"), tuple(rows))


def _attention(model: Growing) -> str:
    """ "GQA, 16 for 32; window 1,024 in 52 of 62 layers"."""
    rows = [layer for layer in model.layers if layer.kind != "none"]
    heads = sorted({(layer.paper_row.heads, layer.per_head.heads) for layer in rows})
    shared = [f"{kept} for {queries}" for kept, queries in heads] if model.kind in ("GQA", "MQA") else []
    windows = [layer.window for layer in rows if layer.window is not None]
    sizes = " and ".join(f"{window:,}" for window in sorted(set(windows)))
    where = "" if len(windows) == len(rows) else f" in {len(windows)} of {len(rows)} layers"
    return ", ".join([model.kind, *shared]) + (f"; window {sizes}{where}" if windows else "")


def _short(source: str) -> str:
    """A source in two words; all of it stands in sizes_table()."""
    paper = re.search(r"arXiv \S+[0-9]", source)
    return paper[0] if paper else source.split(",")[0]


def _a_token(model: Growing, bits: int) -> str:
    """What the first token adds, and what one adds when every window is full."""
    first = model.bytes(1, bits)
    most = min(MOST, model.context or MOST)
    last = model.bytes(most, bits) - model.bytes(most - 1, bits)
    if first == last:
        return amount(first)
    return f"{amount(first)}, then {amount(last) if last else 0}"


def _room(size: int) -> str:
    fits = [device for device in DEVICES if size <= device.bytes]
    if len(fits) == len(DEVICES):
        return "all devices"
    if not fits:
        return "none of them"
    return f"{short(fits[0])}{' and larger' if len(fits) > 1 else ' alone'}"


def sizes_table() -> Table:
    """What the numbers are made of, each with its source."""
    header = ("model", "parameters", "layers", "query heads", "key-value heads", "width of a key, a value", "source")
    rows = []
    for entry in KNOWN:
        layers = [layer for layer in known(entry.name).layers if layer.kind != "none"]
        row, heads = layers[0].row, layers[0].per_head.heads
        widths = f"{row.key_width}" if row.key_width == row.value_width else f"{row.key_width}, {row.value_width}"
        latent = layers[0].kind == "latent"
        shared = "1 compressed" if latent else str(layers[0].paper_row.heads)
        rows.append((entry.name, _count(entry.parameters), str(len(layers)), str(heads), shared, widths, entry.source))
    return Table(header, tuple(rows))


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.4g} billion" if parameters >= 1e9 else f"{parameters / 1e6:.0f} million"


def devices_table() -> Table:
    """What the makers publish."""
    rows = [
        (
            device.name,
            f"{device.gib:g} GB",
            f"{device.bandwidth / 1e9:,.0f} GB a second" if device.bandwidth else "not published",
            f"{device.compute / 1e12:,.1f} trillion a second" if device.compute else "not published",
            device.source,
        )
        for device in DEVICES
    ]
    return Table(("device", "memory", "reads from it", "16-bit operations", "source"), tuple(rows))
