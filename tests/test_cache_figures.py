"""The tab Bytes: figures, sentences, tables, against NumPy on published sizes, the core's formula and real runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tf
from streamlit.testing.v1 import AppTest

from attention_core.cache_size import cache_bytes, cache_report
from attention_core.figures import cache_figures as figures
from attention_core.figures import known_tables, roofline_figures
from attention_core.figures.growing import DOUBLING, MOST, amount, growing, known, token_choices
from attention_core.generation import decode
from attention_core.known_models import KNOWN
from attention_core.language import LanguageModel
from attention_core.roofline import DEVICES, roofline
from attention_core.run import Run
from tests.architectures import ARCHITECTURES

LONG = 131_072
GIB = 2**30
DEVICE = {device.name: device for device in DEVICES}
H100 = DEVICE["H100 (SXM)"]
CONFIGS = {model.name: model.config() for model in KNOWN}
# layers, key-value heads, width of a head, window, layers with it: from the papers, not from our list
PUBLISHED = {
    "GPT-2 XL": (48, 25, 64, 0, 0),
    "Llama 3.1 8B": (32, 8, 128, 0, 0),
    "Llama 3.1 405B": (126, 8, 128, 0, 0),
    "Qwen 3 235B-A22B": (94, 4, 128, 0, 0),
    "Gemma 3 27B": (62, 16, 128, 1024, 52),
    "Mistral 7B v0.1": (32, 8, 128, 4096, 32),
    "gpt-oss 20b": (24, 8, 64, 128, 12),
    "Falcon 7B": (32, 1, 64, 0, 0),
}


def by_hand(name: str, tokens: np.ndarray, bits: int, batch: int) -> np.ndarray:
    layers, heads, width, window, sliding = PUBLISHED[name]
    rows = (layers - sliding) * tokens.astype(np.float64) + sliding * np.minimum(tokens, window - 1)
    return rows * 2 * heads * width * batch * bits / 8


def row_of(table, name: str) -> dict[str, str]:
    return next(dict(zip(table.header, row, strict=True)) for row in table.rows if row[0] == name)


# ── growing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_by_tokens_are_those_of_the_formula(name):
    for tokens in (1, 127, 128, 129, 511, 1023, 1024, 4095, 4096, 262_143, 262_144, MOST):
        expected = cache_bytes(CONFIGS[name], tokens, torch.bfloat16, 3)
        assert known(name).bytes(tokens, 16, 3) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_bytes_by_tokens_are_those_of_published_sizes(name):
    tokens = np.array([1, 100, 5000, LONG, MOST])
    for bits, batch in ((32, 1), (16, 7), (8, 1), (4, 2)):
        found = [known(name).bytes(count, bits, batch) for count in tokens.tolist()]
        np.testing.assert_array_equal(found, by_hand(name, tokens, bits, batch))


def test_a_well_known_number():
    """Llama 3.1 8B, bf16: 128 KiB a token, 16 GiB at 128k; 80 GiB are full at 640k."""
    model = known("Llama 3.1 8B")
    assert model.bytes(1, 16) == 128 * 1024 and model.bytes(LONG, 16) == 16 * GIB
    assert model.full_at(80 * GIB, 16) == 640 * 1024
    assert model.full_at(80 * GIB - 1, 16) == 640 * 1024 - 1
    assert model.full_at(80 * GIB, 16, batch=2) == 320 * 1024
    assert known("Mistral 7B v0.1").full_at(GIB, 16) == MOST


def test_the_encoders_tokens_do_not_grow():
    config = tf.T5Config()  # 6 layers, 8 heads of 64
    model = growing("T5", config, encoder_tokens=13)
    for tokens in (1, 12, 13, 14, 5000):
        assert model.bytes(tokens, 32) == 6 * 2 * 8 * 64 * 4 * (tokens + 13)


def test_amounts():
    sizes = {0: "0 bytes", 1: "1 byte", 1023: "1,023 bytes", 1024: "1 KiB", 516_096: "504 KiB", 70_272: "68.6 KiB"}
    sizes |= {
        16 * GIB: "16 GiB",
        1008 * 1024: "1,008 KiB",
        2**20 - 1: "1 MiB",
        3 * 2**49: "1.5 PiB",
        2**70: "1,048,576 PiB",
    }
    assert {size: amount(size) for size in sizes} == sizes


def test_choices_begin_behind_the_text():
    assert token_choices(25)[:3] == [0, 32, 64] and token_choices(32)[:2] == [0, 64]
    assert token_choices(25)[-1] == MOST and LONG in DOUBLING


# ── measured = computed ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def runs(small):
    torch.manual_seed(0)
    t5 = LanguageModel(ARCHITECTURES["T5: relative positions"].build().eval(), None, "t5")
    return {
        "small": (small.model.config, Run.of(decode(small, "Mr Brown gave the key to Anna", 3))),
        "t5": (t5.model.config, Run.of(decode(t5, [3, 4, 5, 6, 7], 4))),
    }


@pytest.mark.parametrize("name", ["small", "t5"])
def test_measured_and_computed_are_one_number(runs, name):
    config, run = runs[name]
    step = run.steps[-1]
    report = cache_report(config, step.read, (32,), encoder_tokens=len(run.facts.source) or None)
    measured = sum(t.nbytes for pair in (*step.cache, *step.cross_cache) if pair is not None for t in pair)
    title, (equation,) = figures.measured_in_words(report, 32, step.cache_bytes)
    assert title == f"{measured:,} bytes measured = {measured:,} bytes computed"
    assert equation.endswith(f"= {measured:,} bytes.")


def test_a_difference_is_said():
    report = cache_report(CONFIGS["SmolLM2 135M"], 128, (32,))
    title, (said,) = figures.measured_in_words(report, 32, 5_898_200)
    assert title == "5,898,200 bytes measured, but 5,898,240 bytes computed" and ": 40 bytes apart." in said


def test_where_the_factors_come_from():
    def said(name: str) -> str:
        return figures.factors_in_words(cache_report(CONFIGS[name], 10), 16)

    assert "a key and a value of 64 numbers each in every layer" in said("SmolLM2 135M")
    assert "a compressed vector of 512 numbers and a rotated key of 64 " in said("DeepSeek V3")
    assert said("Gemma 3 1B").endswith("A layer with a window keeps the newest tokens alone.")
    mamba = cache_report(tf.MambaConfig(num_hidden_layers=2), 10)
    assert "No layer" in figures.factors_in_words(mamba, 16)


def test_what_is_kept_otherwise():
    (paper,) = figures.kept_otherwise(cache_report(CONFIGS["Mistral 7B v0.1"], 9000), 16)
    assert "window of 4,096" in paper and f"{2 * 32 * 8 * 128 * 4096 * 2:,} bytes" in paper
    (silent,) = figures.kept_otherwise(cache_report(tf.MambaConfig(num_hidden_layers=2), 10), 16, 4096)
    assert "Layers 0, 1: a state space" in silent and "4,096 bytes" in silent
    assert not figures.kept_otherwise(cache_report(CONFIGS["Llama 2 7B"], 10), 16)


# ── the curve ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bits,batch", [(16, 1), (4, 8)])
def test_the_curve_is_numpys(bits, batch):
    names = ["Llama 3.1 8B", "Gemma 3 27B", "Mistral 7B v0.1"]
    figure = figures.growth_curve([known(name) for name in names], LONG, bits, batch, H100)
    lines, marks = ([trace for trace in figure.data if trace.mode == mode] for mode in ("lines", "markers"))
    for name, line, mark in zip(names, lines, marks, strict=True):
        assert line.name == mark.name == name and line.y.dtype == np.float32
        np.testing.assert_allclose(line.y, by_hand(name, line.x, bits, batch), rtol=1e-6)
        assert mark.x[0] == LONG and mark.y[0] == pytest.approx(by_hand(name, np.array([LONG]), bits, batch)[0])
        assert (line.x[0], line.x[-1]) == (8, MOST) and np.all(np.diff(line.x) > 0)
    assert len({line.line.dash for line in lines}) == 3, "colour is not the only sign"
    memories = {shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1}
    assert memories == {gib * GIB for gib in (8, 16, 24, 80, 141)}
    said = [note.text for note in figure.layout.annotations]
    assert {"A100, H100: 80 GB", "RTX 4090: 24 GB", "<b>Llama 3.1 8B</b>"} <= set(said)
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_names_at_the_ends_do_not_touch_and_are_text():
    models = [growing("<i>mine</i>", CONFIGS["Llama 3.1 8B"]), *map(known, figures.DRAWN)]
    figure = figures.growth_curve(models, 100, 16, 1, H100)
    ends = sorted(note.y for note in figure.layout.annotations if note.x == 1.0)
    low, high = figure.layout.yaxis.range
    assert len(ends) == 5 and np.diff(ends).min() >= (high - low) / 22 - 1e-9
    assert any("&lt;i&gt;mine" in note.text for note in figure.layout.annotations)


def test_the_curve_in_words_and_numbers():
    model = known("Llama 3.1 8B")
    first, full = figures.growth_in_words(model, LONG, 16, 1, H100)
    assert first == "In bf16 and with 131,072 tokens, the cache of Llama 3.1 8B takes 16 GiB."
    assert full == "H100 (SXM): its 80 GB of memory are full of it at 655,360 tokens."
    said = figures.growth_in_words(known("GPT-2 small"), 4096, 4, 2, DEVICE["H200 (SXM)"])
    assert "for each of 2 texts" in said[0] and said[-1].startswith("GPT-2 small reads at most 1,024 tokens")
    table = figures.growth_table([model, known("DeepSeek V3")], LONG, 16, 1)
    assert dict(zip(table.header, next(row for row in table.rows if row[0] == "131,072"), strict=True)) == {
        "tokens": "131,072",
        "Llama 3.1 8B": "16 GiB",
        "DeepSeek V3": amount(70_272 * LONG),
    }


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_known_models():
    table = known_tables.known_table(LONG, 16, 1)
    assert [row[0] for row in table.rows] == list(CONFIGS)
    llama = row_of(table, "Llama 3.1 8B")
    assert [llama[width] for width in ("fp32", "bf16", "int8", "int4")] == ["32 GiB", "16 GiB", "8 GiB", "4 GiB"]
    assert (llama["a token, bf16"], llama["attention"], llama["year"]) == ("128 KiB", "GQA, 8 for 32", "2024")
    assert (llama["room, bf16"], llama["reads at most"]) == ("Laptop and larger", "131,072")
    assert llama["source"] == "arXiv 2407.21783"
    deepseek = row_of(table, "DeepSeek V3")
    assert (deepseek["a token, bf16"], deepseek["attention"]) == ("68.6 KiB", "MLA")  # arXiv 2505.09343, table 1
    assert row_of(table, "Llama 3.1 405B")["a token, bf16"] == "504 KiB"
    assert row_of(table, "GPT-2 small")["reads at most"] == "1,024: too few"
    gemma = row_of(table, "Gemma 3 27B")
    assert gemma["attention"] == "GQA, 16 for 32; window 1,024 in 52 of 62 layers"
    assert gemma["a token, bf16"] == "496 KiB, then 80 KiB"
    assert row_of(table, "Falcon 7B")["attention"] == "MQA, 1 for 71"
    assert row_of(known_tables.known_table(LONG, 16, 64), "Llama 3.1 8B")["bf16"] == "1 TiB"


ROOM = {2: "all devices", 3: "Laptop and larger", 6: "RTX 4090 and larger", 20: "A100 80 GB and larger"}


@pytest.mark.parametrize("batch,room", [*ROOM.items(), (21, "H200 alone"), (36, "none of them")])
def test_what_has_room(batch, room):
    """Llama 3.1 8B at 131,072 tokens takes 4 GiB a text in int4; the devices have 8, 16, 24, 80, 80 and 141."""
    llama = row_of(known_tables.known_table(LONG, 4, batch), "Llama 3.1 8B")
    assert (llama["int4"], llama["room, int4"]) == (f"{4 * batch} GiB", room)


def test_every_number_has_a_source():
    sizes, devices = known_tables.sizes_table(), known_tables.devices_table()
    assert [row[0] for row in sizes.rows] == list(CONFIGS) and all(row[-1] for row in (*sizes.rows, *devices.rows))
    assert row_of(sizes, "DeepSeek V3")["width of a key, a value"] == "512, 64"
    assert row_of(devices, "H100 (SXM)")["16-bit operations"] == "989.4 trillion a second"


# ── kinds of attention ──────────────────────────────────────────────────────────────────────────────────────────────


def test_four_kinds_side_by_side():
    sizes = figures.kinds(CONFIGS["Llama 3.1 8B"], LONG, 16, 1, None)
    assert sizes == {"MHA": 64 * GIB, "GQA": 16 * GIB, "MQA": 2 * GIB, "MLA": None}
    assert known("Llama 3.1 8B").kind == "GQA" and known("DeepSeek V3").kind == "MLA"
    (bars,) = figures.kinds_bars(sizes, "GQA").data
    np.testing.assert_array_equal(bars.x, np.float32([64 * GIB, 16 * GIB, 2 * GIB, 0]))
    assert bars.y[1] == "GQA (its own)" and bars.text[3] == "its sizes do not say how this would be built"
    assert figures.kinds_in_words(sizes, "GQA")[1] == "MHA would take 4 times as many bytes."
    assert figures.kinds_table(sizes).rows[1][2] == "17,179,869,184"


def test_a_model_without_any_kind():
    config = tf.MambaConfig(num_hidden_layers=2)
    model = growing("Mamba", config)
    assert model.kind == "" and model.bytes(MOST, 16) == 0
    sizes = figures.kinds(config, 10, 16, 1, None)
    assert figures.kinds_in_words(sizes, "") == [] and set(figures.kinds_bars(sizes, "").data[0].x) == {0}
    figures.growth_curve([model], 10, 16, 1, H100)


# ── the roofline ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_roof_and_the_points_on_it():
    config = CONFIGS["Llama 3.1 8B"]
    roof = roofline(config, 100, 8, H100)
    others = [roofline(config, 100, batch, H100) for batch in roofline_figures.batches(roof)]
    line, points = roofline_figures.roofline_figure(roof, others).data
    assert points.y.dtype == np.float32 and [int(b.replace(",", "")) for b in points.customdata] == sorted(
        {1, 4, 8, 16, 64, 256, 1024, roof.changes_at}
    )
    for trace in (line, points):
        np.testing.assert_allclose(trace.y, np.minimum(trace.x * 3.35, 989.4), rtol=1e-5)
    np.testing.assert_allclose(points.x, [other.intensity for other in others], rtol=1e-6)
    assert points.text[2] == "<b>batch 8</b>" and points.marker.symbol[2] == "diamond"


def test_the_roofline_in_words():
    """8,030,261,248 parameters, 128,256 × 4,096 of them only looked up; 3.35 TB a second."""
    config = CONFIGS["Llama 3.1 8B"]
    title, said = roofline_figures.roofline_in_words(roofline(config, 0, 1, H100))
    seconds = 2 * (8_030_261_248 - 128_256 * 4096) / 3.35e12
    assert title == "Bound by memory" and f"{seconds * 1e3:.3g} ms on the H100" in said[0]
    assert "From 296 texts at once (the batch) on" in said[1] and "fit into its 80 GB" in said[2]
    title, said = roofline_figures.roofline_in_words(roofline(config, 0, 296, H100))
    assert title == "Bound by compute"
    title, said = roofline_figures.roofline_in_words(roofline(CONFIGS["GPT-2 small"], 1024, 1, H100))
    assert said[1].startswith("However many texts")
    _, said = roofline_figures.roofline_in_words(roofline(CONFIGS["Llama 3.1 405B"], 10, 1, H100))
    assert "are more than its 80 GB" in said[2]


def test_the_rooflines_tables():
    roof = roofline(CONFIGS["Llama 3.1 8B"], 1000, 4, H100)
    (line,) = roofline_figures.roofline_table([roof]).rows
    assert line[0] == "4" and line[3] == "memory" and line[4] == f"{4 / roof.seconds:,.0f}"
    whats = [what for what, _ in roofline_figures.equations_table(roof).rows]
    assert whats == ["bytes", "operations", "intensity", "H100 (SXM)"]
    durations = {4.786e-3: "4.79 ms", 1.5: "1.5 s", 2e-6: "2 µs", 3e-9: "3 ns", 0.9999: "1 s", 1234.0: "1,234 s"}
    assert {seconds: roofline_figures.duration(seconds) for seconds in durations} == durations


# ── the tab ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tab(run, step, chosen) -> None:
    import streamlit as st

    from pages.shared import cache_bytes, messages

    for name, value in chosen.items():
        st.session_state.setdefault(name, value)
    messages.make_place()
    cache_bytes.bytes_tab(run, step)


def shown(runs, name: str, known_sizes: bool = True, **chosen) -> tuple[AppTest, str]:
    config, run = runs[name]
    facts = SimpleNamespace(**{part: getattr(run.facts, part) for part in ("source", "model", "context")})
    facts.config = config if known_sizes else None
    chosen = {"tokens_at": 0, "bits": "16", "batch": 1, "known": "", "device": H100.name} | chosen
    app = AppTest.from_function(
        tab, args=(SimpleNamespace(facts=facts), run.steps[-1], chosen), default_timeout=60
    ).run()
    assert not app.exception
    return app, " ".join(part.proto.body for part in app.get("html"))


def test_the_tab(runs):
    app, said = shown(runs, "small", tokens_at=LONG, known="Llama 3.1 8B")
    measured = runs["small"][1].steps[-1].cache_bytes
    assert f"{measured:,} bytes measured = {measured:,} bytes computed" in said
    assert "<td>131,072</td>" in said.replace(' style="white-space: nowrap"', "") and "16 GiB" in said
    assert "It uses GQA" in said and "Bound by memory" in said and len(app.get("plotly_chart")) == 3
    widgets = [*app.select_slider, *app.number_input, *app.selectbox, *app.get("button_group")]
    assert len(widgets) == 5, "at most five controls"


def test_the_tab_of_an_encoder_decoder(runs):
    _, said = shown(runs, "t5")
    step = runs["t5"][1].steps[-1]
    own, cross = (sum(t.nbytes for pair in part for t in pair) for part in (step.cache, step.cross_cache))
    assert f"{own:,} bytes of the {step.read:,} tokens" in said and f"{cross:,} bytes of the 5 tokens" in said


def test_the_tab_of_a_model_that_nobody_knows(runs):
    app, said = shown(runs, "small", known_sizes=False)
    assert "no equation for it" in said and "bytes measured" in said and not app.get("plotly_chart")


def test_the_tab_with_numbers_that_cannot_be(runs):
    app, said = shown(runs, "small", tokens_at=3, batch=10**6, device=DEVICES[0].name)
    assert app.session_state.tokens_at == 0 and app.session_state.batch == 4096
    assert "texts can be counted at once" in said and "choose another device" in said
