"""The tab Bytes of the page KV cache: measured bytes = the equation, how they grow, well-known models, the roofline."""

import streamlit as st

from attention_core.cache_size import cache_report
from attention_core.errors import HeadlightError
from attention_core.figures import cache_figures as figures
from attention_core.figures import known_tables, roofline_figures
from attention_core.figures.growing import MOST, WIDTHS, Growing, growing, known, token_choices
from attention_core.known_models import KNOWN
from attention_core.roofline import DEVICES, Device, roofline
from attention_core.run import DecodeStep, Run

from . import selection
from .drawn import colours, opened, plot, show_table
from .messages import notice, sentence, told
from .other_models import title_of

MODELS = {model.name: model for model in KNOWN}
DEVICE = {device.name: device for device in DEVICES}
MOST_TEXTS = 4096
BITS = {str(bits): name for bits, name in WIDTHS.items()}


def bytes_tab(run: Run, step: DecodeStep) -> None:
    """What the cache of a step takes, and what it would take with other tokens, numbers, models and devices."""
    config = run.facts.config
    if config is None:
        told(
            f"{step.cache_bytes:,} bytes measured",
            ["The sizes of this model are not known here, so there is no equation for it."],
        )
        return
    source = len(run.facts.source) or None
    try:
        _measured(run, step, source)
        this = growing(title_of(run.facts.model), config, run.facts.context, source)
    except HeadlightError as problem:
        told(f"{step.cache_bytes:,} bytes measured", [str(problem)])
        return
    tokens, bits, batch = _asked(step.read)
    chosen = known(st.session_state.known) if st.session_state.known else this
    device = DEVICE[st.session_state.device]
    _growth(this, chosen, tokens, bits, batch, device)
    _well_known(tokens, bits, batch)
    _one_model(run, chosen, tokens, bits, batch, device, source)


def _measured(run: Run, step: DecodeStep, source: int | None) -> None:
    kept = [pair for pair in (*step.cache, *step.cross_cache) if pair is not None]
    bits = 8 * kept[0][0].dtype.itemsize if kept else 32
    report = cache_report(run.facts.config, step.read, (bits,), encoder_tokens=source)
    told(*figures.measured_in_words(report, bits, step.cache_bytes))
    sentence(figures.factors_in_words(report, bits))
    if source is not None:
        own, cross = (
            sum(k.nbytes + v.nbytes for k, v in filter(None, part)) for part in (step.cache, step.cross_cache)
        )
        sentence(
            f"It keeps two caches: {own:,} bytes of the {step.read:,} tokens that its decoder has read, which grow "
            f"with every step, and {cross:,} bytes of the {source:,} tokens that its encoder read, written once."
        )
    for line in figures.kept_otherwise(report, bits, step.state_bytes):
        sentence(line)


def _asked(read: int) -> tuple[int, int, int]:
    """Tokens, bits of a number and texts at once, as the controls say."""
    state = st.session_state
    if not 0 <= state.tokens_at <= MOST:
        notice(f"The curve ends at {MOST:,} tokens: that is shown.")
        state.tokens_at = MOST
    if 0 < state.tokens_at <= read:
        state.tokens_at = 0
    if not 1 <= state.batch <= MOST_TEXTS:
        notice(f"1 to {MOST_TEXTS:,} texts can be counted at once: {MOST_TEXTS:,} are shown.")
        state.batch = MOST_TEXTS
    choices = sorted({*token_choices(read), state.tokens_at})
    tokens, width, texts = st.columns([5, 3, 2], gap="medium")
    tokens.select_slider(
        "Tokens in the cache",
        choices,
        key="tokens_at",
        format_func=lambda count: f"{count:,}" if count else f"{read:,}, as here",
        on_change=selection.changed,
    )
    width.segmented_control(
        "Each number in", list(BITS), key="bits", format_func=BITS.get, on_change=selection.changed, required=True
    )
    texts.number_input("Texts at once (batch)", 1, MOST_TEXTS, key="batch", step=1, on_change=selection.changed)
    return state.tokens_at or read, int(state.bits), state.batch


def _growth(this: Growing, chosen: Growing, tokens: int, bits: int, batch: int, device: Device) -> None:
    names = dict.fromkeys([*figures.DRAWN, *([chosen.name] if chosen is not this else [])])
    models = [this, *(known(name) for name in names)]
    said = figures.growth_in_words(this, tokens, bits, batch, device)
    told("How it grows", said)
    figure = figures.growth_curve(models, tokens, bits, batch, device, colours())
    plot(figure, "bytes-growth", " ".join(said))
    sentence(
        "A number takes 4 bytes in fp32, 2 in bf16, 1 in int8, half a byte in int4 (the few scales that int8 and int4 "
        "need are left out). 1 GiB is 1,024³ bytes; makers of memory print GB for it. Weights are not counted here."
    )
    opened("The curve as a table", "bytes-growth-table", lambda: figures.growth_table(models, tokens, bits, batch))


def _well_known(tokens: int, bits: int, batch: int) -> None:
    texts = f", {batch:,} texts at once" if batch > 1 else ""
    sentence(f"Well-known models with {tokens:,} tokens in the cache{texts}", "heading")
    show_table(known_tables.known_table(tokens, bits, batch))
    sentence(
        "GQA, 8 for 32: 8 key-value heads for 32 query heads. Window: how many tokens a layer looks back; when it is "
        "full, a further token adds only the second amount. Room: for the cache alone, without weights."
    )
    opened("All sizes and their sources", "bytes-sizes", known_tables.sizes_table, known_tables.devices_table)


def _one_model(
    run: Run, chosen: Growing, tokens: int, bits: int, batch: int, device: Device, source: int | None
) -> None:
    """One model more closely: with other kinds of attention, and under a device's roof."""
    state = st.session_state
    sentence("One model more closely", "heading")
    name, place = st.columns(2, gap="large")
    this = f"this model: {title_of(run.facts.model)}"
    name.selectbox(
        "Model", ["", *MODELS], key="known", format_func=lambda name: name or this, on_change=selection.changed
    )
    place.selectbox("Device", list(DEVICE), key="device", on_change=selection.changed)
    config, source = (MODELS[state.known].config(), None) if state.known else (run.facts.config, source)
    sizes = figures.kinds(config, tokens, bits, batch, source)
    left, right = st.columns(2, gap="large")
    with left:
        told("The same model with each kind of attention", figures.kinds_in_words(sizes, chosen.kind))
        plot(
            figures.kinds_bars(sizes, chosen.kind, colours()),
            "bytes-kinds",
            " ".join(figures.kinds_in_words(sizes, chosen.kind)),
        )
        opened("The bars as a table", "bytes-kinds-table", lambda: figures.kinds_table(sizes))
    with right:
        try:
            roof = roofline(config, tokens, batch, device, cache_bits=bits, encoder_tokens=source)
        except HeadlightError as problem:
            asked = "This takes how fast a device reads its memory, and how fast it computes."
            told("Bound by memory or by compute", [asked, str(problem)])
            return
        others = [
            roofline(config, tokens, other, device, cache_bits=bits, encoder_tokens=source)
            for other in roofline_figures.batches(roof)
        ]
        title, said = roofline_figures.roofline_in_words(roof)
        told(title, said)
        plot(
            roofline_figures.roofline_figure(roof, others, colours()), "bytes-roofline", " ".join([title + ".", *said])
        )
    show_table(roofline_figures.equations_table(roof))
    opened("Other batches as a table", "bytes-roofline-table", lambda: roofline_figures.roofline_table(others))
