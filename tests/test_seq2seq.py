"""The stations of the road against their papers' equations: small examples worked by hand, and NumPy in float64."""

import numpy as np
import pytest
import torch

from attention_core.errors import HeadlightError
from attention_core.seq2seq.additive import Additive
from attention_core.seq2seq.bottleneck import Bottleneck
from attention_core.seq2seq.local import LocalMonotonic, LocalPredictive, gaussian
from attention_core.seq2seq.luong import Global
from attention_core.seq2seq.original import Original
from attention_core.seq2seq.recurrent import Memory, Sizes
from attention_core.seq2seq.saying import Steps, say, steps
from attention_core.seq2seq.sounds import (
    END,
    IPA,
    LONGEST,
    PAD,
    START,
    VOCABULARY,
    ipa,
    letter_numbers,
    named,
    padded,
    sound_numbers,
    spelled,
)
from attention_core.seq2seq.stations import load_station, results

TWO = Sizes(embedding=2, hidden=2)
STATES = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])  # h̄_0 … h̄_2 of a word of three letters
RECURRENT = [
    Bottleneck,
    Additive,
    lambda: Global("dot"),
    Global,
    lambda: Global("concat"),
    LocalMonotonic,
    LocalPredictive,
]
IDS = ["bottleneck", "additive", "dot", "general", "concat", "local-m", "local-p"]


def memory(states: torch.Tensor = STATES) -> Memory:
    return Memory(states, torch.ones(states.shape[:2], dtype=torch.bool), states[:, -1])


def put(parameter: torch.Tensor, values: list) -> None:
    parameter.data = torch.tensor(values)


def softmax(scores):
    shares = np.exp(np.asarray(scores, dtype=np.float64))
    return shares / shares.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def as_numpy(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def gru(x: np.ndarray, h: np.ndarray, weights: dict[str, np.ndarray], behind: str = "") -> np.ndarray:
    """Cho et al. (2014), eq. 5 to 8, one step: reset r, update z, the new state's proposal."""
    given = weights[f"weight_ih{behind}"] @ x + weights[f"bias_ih{behind}"]
    own = weights[f"weight_hh{behind}"] @ h + weights[f"bias_hh{behind}"]
    (r, z, n), (r_h, z_h, n_h) = np.split(given, 3), np.split(own, 3)
    r, z = sigmoid(r + r_h), sigmoid(z + z_h)
    return z * h + (1 - z) * np.tanh(n + r * n_h)


# ── worked by hand ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_dot_scores_by_hand():
    """Luong et al., eq. 8, first line: h = [1, 2] with [1, 0], [0, 2], [1, 1] gives 1, 4 and 3."""
    look = Global("dot", TWO).look(torch.tensor([[1.0, 2.0]]), memory(), 0)
    assert look.scores.tolist() == [[1.0, 4.0, 3.0]]
    assert look.weights[0].detach().numpy() == pytest.approx(softmax([1, 4, 3]))  # eq. 7


def test_general_scores_by_hand():
    """Eq. 8, second line: W_a = [[0, 1], [1, 0]] swaps a letter's numbers: [0, 1], [2, 0], [1, 1] → 2, 2 and 3."""
    station = Global("general", TWO)
    put(station.factors.weight.weight, [[0.0, 1.0], [1.0, 0.0]])
    look = station.look(torch.tensor([[1.0, 2.0]]), memory(), 0)
    assert look.scores.tolist() == [[2.0, 2.0, 3.0]]


def test_concat_scores_by_hand():
    """Eq. 8, third line: W_a [h; h̄] = [h_1 + h̄_1, h_2 − h̄_2] and v_a = [1, 2]."""
    station = Global("concat", TWO)
    put(station.factors.weight.weight, [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])
    put(station.factors.vector, [1.0, 2.0])
    look = station.look(torch.tensor([[0.5, 1.0]]), memory(), 0)
    expected = [np.tanh(1.5) + 2 * np.tanh(1), np.tanh(0.5) + 2 * np.tanh(-1), np.tanh(1.5) + 2 * np.tanh(0)]
    assert look.scores[0].detach().numpy() == pytest.approx(expected)


def test_additive_scores_by_hand():
    """Bahdanau et al., A.1.2: W swaps s, U is the identity, v = [1, −1]; eq. 6 and 5: the blend of the letters."""
    station = Additive(TWO)
    put(station.from_state.weight, [[0.0, 1.0], [1.0, 0.0]])
    put(station.from_letter.weight, [[1.0, 0.0], [0.0, 1.0]])
    put(station.score.weight, [[1.0, -1.0]])
    look = station.look(torch.tensor([[0.5, 1.0]]), memory())
    expected = [np.tanh(2) - np.tanh(0.5), np.tanh(1) - np.tanh(2.5), np.tanh(2) - np.tanh(1.5)]
    assert look.scores[0].detach().numpy() == pytest.approx(expected)
    assert look.weights[0].detach().numpy() == pytest.approx(softmax(expected))


def test_local_m_by_hand():
    """Section 3.2, D = 2: of five letters sound 0 sees 0 to 2, sound 3 sees 1 to 4, sound 9 the last three."""
    states = torch.arange(10.0).reshape(1, 5, 2) / 10
    station = LocalMonotonic(sizes=TWO)
    put(station.factors.weight.weight, [[1.0, 0.0], [0.0, 1.0]])
    for place, seen in ((0, [0, 1, 2]), (3, [1, 2, 3, 4]), (9, [2, 3, 4])):
        look = station.look(torch.tensor([[1.0, 2.0]]), memory(states), place)
        scores = [0.1 * (2 * s) + 0.2 * (2 * s + 1) for s in seen]
        assert look.weights[0].nonzero()[:, 0].tolist() == seen
        assert look.weights[0, seen].detach().numpy() == pytest.approx(softmax(scores), rel=1e-6)


def test_local_p_by_hand():
    """Eq. 9 and 10: v_p = [ln 3, 0] and tanh(W_p h) = [1, …] put p_t at 5 · 3/4 = 3.75 of five letters."""
    states = torch.zeros(1, 5, 2)
    station = LocalPredictive(sizes=TWO)
    put(station.toward.weight, [[100.0, 0.0], [0.0, 0.0]])
    put(station.place.weight, [[float(np.log(3)), 0.0]])
    look = station.look(torch.tensor([[1.0, 2.0]]), memory(states), 0)
    assert look.centre.item() == pytest.approx(3.75)
    third = 1 / 3  # letters 2, 3 and 4 are within 2, and score alike: 1.75, 0.75 and 0.25 away
    assert look.before[0].tolist() == pytest.approx([0, 0, third, third, third])
    expected = [0, 0, *(third * np.exp(-(away**2) / 2) for away in (1.75, 0.75, 0.25))]  # σ = D / 2 = 1
    assert look.weights[0].detach().numpy() == pytest.approx(expected, rel=1e-5)


def test_the_bottleneck_by_hand():
    """Cho et al.: c = tanh(V h_T), s_0 = tanh(V′ c), with V = V′ = the identity and h_T = [1, 1]."""
    station = Bottleneck(TWO)
    for layer in (station.summary, station.first):
        put(layer.weight, [[1.0, 0.0], [0.0, 1.0]])
        put(layer.bias, [0.0, 0.0])
    first, context = station.begin(memory())
    assert context[0].tolist() == pytest.approx([np.tanh(1)] * 2)
    assert first[0].tolist() == pytest.approx([np.tanh(np.tanh(1))] * 2)


# ── whole passes, in NumPy ──────────────────────────────────────────────────────────────────────────────────────────


def encoded(station, numbers: list[int]) -> np.ndarray:
    """(letters, hidden): both directions, in NumPy."""
    weights, table = as_numpy(station.encoder.rnn), station.encoder.embed.weight.detach().double().numpy()
    made = []
    for behind, order in (("_l0", numbers), ("_l0_reverse", numbers[::-1])):
        h, states = np.zeros(station.sizes.hidden // 2), []
        for number in order:
            h = gru(table[number], h, weights, behind)
            states.append(h)
        made.append(states if behind == "_l0" else states[::-1])
    return np.concatenate([np.array(made[0]), np.array(made[1])], axis=1)


@pytest.mark.parametrize("make", RECURRENT, ids=IDS)
def test_a_whole_pass_against_numpy(make):
    torch.manual_seed(3)
    station = make().eval()
    letters, sounds = letter_numbers("cough"), sound_numbers(["K", "AO", "F"])
    with torch.no_grad():
        logits = station(torch.tensor([letters]), torch.tensor([sounds]))[0].double().numpy()
    w = as_numpy(station)
    states, half = encoded(station, letters), station.sizes.hidden // 2
    final = np.concatenate([states[-1, :half], states[0, half:]])
    cell = {name: value for name, value in as_numpy(station.cell).items()}
    table = w["embed.weight"]

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)

    def aligned(h: np.ndarray, place: int) -> np.ndarray:
        if isinstance(station, Additive):
            hidden = np.tanh(w["from_state.weight"] @ h + states @ w["from_letter.weight"].T)
            return softmax(hidden @ w["score.weight"][0])
        if "factors.vector" in w:
            joined = [np.tanh(w["factors.weight.weight"] @ np.concatenate([h, s])) for s in states]
            scores = np.array(joined) @ w["factors.vector"]
        else:
            matrix = w.get("factors.weight.weight", np.eye(len(h)))
            scores = np.array([h @ matrix @ s for s in states])
        centre, count = None, len(states)
        if isinstance(station, LocalMonotonic):
            centre = min(place, count - 1)
        if isinstance(station, LocalPredictive):
            centre = count * sigmoid(w["place.weight"][0] @ np.tanh(w["toward.weight"] @ h))
        if centre is None:
            return softmax(scores)
        away = np.abs(np.arange(count) - centre)
        shares = np.where(away <= 2, np.exp(scores), 0)
        shares /= shares.sum()
        return shares * np.exp(-(away**2) / 2) if isinstance(station, LocalPredictive) else shares

    made = []
    if isinstance(station, Bottleneck):
        context = np.tanh(linear("summary", final))
        h = np.tanh(linear("first", context))
        for said in [START, *sounds[:-1]]:
            h = gru(np.concatenate([table[said], context]), h, cell)
            made.append(np.tanh(linear("blend", np.concatenate([h, context, table[said]]))))
    elif isinstance(station, Additive):
        h = np.tanh(linear("first", states[0, half:]))
        for place, said in enumerate([START, *sounds[:-1]]):
            context = aligned(h, place) @ states
            h = gru(np.concatenate([table[said], context]), h, cell)
            made.append(np.tanh(linear("blend", np.concatenate([h, context, table[said]]))))
    else:
        h, fed = np.tanh(linear("first", final)), np.zeros(2 * half)
        for place, said in enumerate([START, *sounds[:-1]]):
            h = gru(np.concatenate([table[said], fed]), h, cell)
            fed = np.tanh(linear("blend", np.concatenate([aligned(h, place) @ states, h])))
            made.append(fed)
    assert logits == pytest.approx(np.array(made) @ w["out.weight"].T, abs=2e-5)


def test_the_transformer_against_numpy():
    """Vaswani et al.: eq. 1 in several heads, eq. 2, add & norm behind each, √d_model and sinusoids, in NumPy."""
    torch.manual_seed(3)
    station = Original().eval()
    letters, sounds = letter_numbers("cough"), sound_numbers(["K", "AO", "F"])
    with torch.no_grad():
        for parameter in station.parameters():  # biases and norms that matter, where they begin as 0 and 1
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
        logits = station(torch.tensor([letters]), torch.tensor([sounds]))[0].double().numpy()
    w = as_numpy(station.model)
    w |= {name: value.double().numpy() for name, value in station.model.named_buffers()}
    config = station.model.config
    size, heads = config.d_model, config.encoder_attention_heads

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def attention(x, y, name, causal=False):
        q, k, v = linear(x, f"{name}.q_proj"), linear(y, f"{name}.k_proj"), linear(y, f"{name}.v_proj")
        parts = []
        for h in range(heads):
            part = slice(h * size // heads, (h + 1) * size // heads)
            scores = q[:, part] @ k[:, part].T / np.sqrt(size / heads)
            if causal:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            parts.append(np.array([softmax(row) for row in scores]) @ v[:, part])
        return linear(np.concatenate(parts, axis=1), f"{name}.out_proj")

    def inner(x, name):
        return linear(np.maximum(linear(x, f"{name}.fc1"), 0), f"{name}.fc2")

    def embedded(numbers, table):
        places = np.arange(len(numbers))[:, None] / 10000 ** (np.arange(size // 2) / (size // 2))
        return table[numbers] * np.sqrt(size) + np.concatenate([np.sin(places), np.cos(places)], axis=1)

    table = w["model.shared.weight"]
    x = embedded(letters, table)
    for i in range(config.encoder_layers):
        name = f"model.encoder.layers.{i}"
        x = norm(x + attention(x, x, f"{name}.self_attn"), f"{name}.self_attn_layer_norm")
        x = norm(x + inner(x, name), f"{name}.final_layer_norm")
    y = embedded([START, *sounds[:-1]], table)
    for i in range(config.decoder_layers):
        name = f"model.decoder.layers.{i}"
        y = norm(y + attention(y, y, f"{name}.self_attn", causal=True), f"{name}.self_attn_layer_norm")
        y = norm(y + attention(y, x, f"{name}.encoder_attn"), f"{name}.encoder_attn_layer_norm")
        y = norm(y + inner(y, name), f"{name}.final_layer_norm")
    assert logits == pytest.approx(y @ table.T + w["final_logits_bias"], abs=1e-4)


# ── how they are asked ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [*RECURRENT, Original], ids=[*IDS, "transformer"])
def test_what_is_said_is_the_likeliest_given_what_was_said(make):
    torch.manual_seed(5)
    station = make().eval()
    letters = padded([letter_numbers("through"), letter_numbers("cat")])
    said, chances, _ = station.say(letters)
    for row in range(2):  # each word as if it were alone
        ends = (said[row] == END).nonzero()[:1, 0].tolist()
        written = said[row][: ends[0] + 1 if ends else None]
        assert not said[row][len(written) :].any()
        alone = letters[row][letters[row] != PAD][None]
        with torch.no_grad():
            shares = station(alone, written[None])[0].softmax(dim=-1)
        assert shares.argmax(dim=-1).tolist() == written.tolist()
        assert chances[row, : len(written)].numpy() == pytest.approx(shares.amax(dim=-1).numpy(), abs=1e-5)


@pytest.mark.parametrize("make", [*RECURRENT, Original], ids=[*IDS, "transformer"])
def test_alignments(make):
    torch.manual_seed(5)
    station = make().eval()
    found = say(station, "Through", "x")
    assert (found.word, found.letters, found.station) == ("through", [*"through", "end"], "x")
    recurrent = not isinstance(station, Original)
    assert len(found.alignments) == (0 if isinstance(station, Bottleneck) else 1 if recurrent else 12)
    assert len(found.chances) == len(found.sounds) and found.steps == steps(station, 8, len(found.sounds))
    for one in found.alignments:
        assert one.weights.shape == (len(found.sounds), 8)
        sums = one.weights.sum(axis=1)
        if isinstance(station, LocalPredictive):
            assert one.before.sum(axis=1) == pytest.approx(1.0, abs=1e-5) and (sums <= 1 + 1e-6).all()
            bell = gaussian(torch.tensor(one.centres), 8).numpy()
            assert one.weights == pytest.approx(one.before * bell, abs=1e-6)
        else:
            assert sums == pytest.approx(1.0, abs=1e-5)
        if isinstance(station, LocalMonotonic | LocalPredictive):
            outside = np.abs(np.arange(8) - one.centres[:, None]) > 2
            assert not one.weights[outside].any() and np.isneginf(one.scores[outside]).all()
        left, right = one.factors(0, 1)
        if np.isfinite(one.scores[0, 1]):
            assert one.scaling * (left * right).sum() == pytest.approx(one.scores[0, 1], abs=1e-5)


def test_the_transformers_alignments_are_its_own():
    station = Original().eval()
    found = say(station, "through")
    before = torch.tensor([[START, *(VOCABULARY.index(s) if s != "end" else END for s in found.sounds[:-1])]])
    station.model.set_attn_implementation("eager")
    with torch.no_grad():
        output = station.model(
            torch.tensor([letter_numbers("through")]), decoder_input_ids=before, output_attentions=True
        )
    for one in found.alignments:
        assert one.weights == pytest.approx(output.cross_attentions[one.layer][0, one.head].numpy(), abs=1e-6)


def test_sequential_steps():
    assert steps(Bottleneck(), 8, 4) == Steps(8, 4, 4)
    assert steps(Original(), 8, 4) == Steps(1, 1, 4)


# ── letters and sounds ──────────────────────────────────────────────────────────────────────────────────────────────


def test_spelling():
    assert spelled("  Don’t ") == "don't"
    assert named(letter_numbers("hi")) == ["h", "i", "end"]
    assert named(sound_numbers(["HH", "AY"])) == ["HH", "AY", "end"]
    assert ipa(["TH", "R", "UW", "end"]) == "θɹu"
    assert len(IPA) == 39 and len(set(IPA.values())) == 39
    assert padded([[3, 4, 5], [6]]).tolist() == [[3, 4, 5], [6, PAD, PAD]]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "There is no word: type one"),
        ("   ", "There is no word"),
        ("two words", "One word at a time"),
        ("naïve", "“ï” is none of the letters"),
        ("r2d2", "“2” is none"),
        ("a" * (LONGEST + 1), "has 35 letters, and at most 34"),
    ],
)
def test_what_is_no_word_is_said(word, told):
    with pytest.raises(HeadlightError, match=told):
        spelled(word)


def test_stations_that_cannot_be_loaded(tmp_path):
    with pytest.raises(HeadlightError, match="There is no station “seq2seq”: choose one of bottleneck"):
        load_station("seq2seq")
    with pytest.raises(HeadlightError, match="One fixed vector.*get the folder"):
        load_station("bottleneck", tmp_path)
    (tmp_path / "bottleneck.safetensors").write_bytes(b"no weights")
    with pytest.raises(HeadlightError, match="get the folder"):
        load_station("bottleneck", tmp_path)
    with pytest.raises(HeadlightError, match="get the folder"):
        results(tmp_path)
