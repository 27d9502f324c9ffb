"""The card of the five encodings: what was measured, in words and tables. Written by training/measure_positions.py."""

from typing import Any

from attention_core.variants import ENCODINGS

AT = (0, 7, 8, 15, 31)  # the bins that the card tells; the curves have all


def between(change: dict[str, float]) -> str:
    return f"{change['mean']:+.2f} ({change['low']:+.2f} to {change['high']:+.2f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed(names: list[str]) -> str:
    titles = [ENCODINGS[name] for name in names]
    return " and ".join(part for part in (", ".join(titles[:-1]), titles[-1]) if part) if titles else "none of them"


def verdicts(told: dict[str, Any]) -> str:
    """Which read on beyond the trained length and which do not; which did best within it. Said from the numbers."""
    found = told["encodings"]
    lines = []
    for end, key in ((2, "twice"), (4, "rise")):
        well = [name for name in ENCODINGS if found[name][key]["low"] <= 0]
        badly = sorted((name for name in ENCODINGS if name not in well), key=lambda name: found[name][key]["mean"])
        worse = "; ".join(f"{ENCODINGS[name]} {between(found[name][key])}" for name in badly)
        lines.append(
            f"- At {end} times the trained length, {listed(well)}: the loss is not higher than at the last trained "
            f"positions, as far as these texts can tell. Higher: {worse or 'none'}."
        )
    order = sorted(ENCODINGS, key=lambda name: found[name]["trained_loss"])
    ranked = ", ".join(f"{ENCODINGS[name]} {found[name]['trained_loss']:.3f}" for name in order)
    lines.append(f"- Within the trained length, best first: {ranked} (nats per token; one training of each).")
    return "\n".join(lines)


def order_used(told: dict[str, Any]) -> str:
    """Who is disturbed least and most where nearly all is shuffled. Said from the numbers."""
    moved = {name: one["shuffled"][min(one["shuffled"], key=int)] for name, one in told["encodings"].items()}
    least, most = (pick(moved, key=lambda name: moved[name]["mean"]) for pick in (min, max))
    return (
        f"With one word in place {ENCODINGS[least]} loses least ({moved[least]['mean']:+.2f}), {ENCODINGS[most]} most "
        f"({moved[most]['mean']:+.2f}): who uses the order more, misses it more. Every one of them uses it, the one "
        "without positions too, since a causal decoder can tell it in part."
        if moved["none"]["low"] > 0
        else "The one without positions does not miss the order, as far as these texts can tell."
    )


def card(told: dict[str, Any]) -> str:
    found, width, trained = told["encodings"], told["bin"], told["trained_length"]
    longest = width * len(found["none"]["loss"])
    stayed = list(found["none"]["shuffled"])
    facts = [
        [
            title,
            f"{found[name]['parameters']:,}",
            f"{found[name]['tokens']:,}",
            f"{found[name]['seconds']}",
            f"{found[name]['trained_loss']:.3f}",
        ]
        for name, title in ENCODINGS.items()
    ]
    places = [
        [title, *(f"{found[name]['loss'][b]:.2f} ± {found[name]['high'][b] - found[name]['loss'][b]:.2f}" for b in AT)]
        for name, title in ENCODINGS.items()
    ]
    rises = [[title, between(found[name]["twice"]), between(found[name]["rise"])] for name, title in ENCODINGS.items()]
    order = [[t, *(between(found[name]["shuffled"][k]) for k in stayed)] for name, t in ENCODINGS.items()]
    parts = [
        "# Five ways to say where a token stands\n",
        f"Five decoder-only Transformers of {told['layers']} layers with {told['heads']} heads, a vocabulary of "
        f"{told['vocabulary']:,} and about half a million parameters (float16), trained alike but for how they are "
        "told the order of the tokens. Their architecture is attention_core/transformer.py, their encodings "
        "attention_core/encodings.py.\n",
        "Written by `python -m training.measure_positions`; the tables are from `results.json`. `passages.npy` holds "
        "the mean loss of every passage in every bin, (encodings, passages, bins).\n",
        "## What differs\n",
        "- **Sinusoidal**: a fixed vector of sines and cosines is added to each embedding, which is first multiplied "
        "by the root of its size, as in Vaswani et al. 2017, sections 3.4 and 3.5. That factor belongs to this variant "
        "alone. Without it the loss at the end of a short training (400,000 tokens) was higher by 0.67: the tokens "
        "drowned in their positions.",
        f"- **Learned**: a row for each of {longest} positions is added. Training reads {trained}: the rows behind "
        "them were never trained and stand as they were drawn at random. What is measured there is just that: this "
        "encoding has nothing to say of positions that it did not meet.",
        "- **RoPE**: queries and keys are turned by an angle that grows with the position (Su et al. 2021).",
        "- **ALiBi**: every step of distance takes something off the score, by head 1/4, 1/16, 1/64 and 1/256 (Press "
        "et al. 2022).",
        "- **No positions**: nothing. A causal decoder is not blind to order even so: how many tokens it sees grows "
        "with the position.\n",
        "## How they learned\n",
        f"The short stories that come with the project, packed end to end, sequences of {trained} tokens; "
        f"{told['steps']:,} steps of {told['sequences']} sequences; every twentieth story was held out. Same first "
        "weights, same sequences in the same order, the same rate for all "
        f"({told['rate']:g}; Muon for the matrices inside the blocks, AdamW for the rest). The rate was not tuned for "
        "any of them, and each was trained once: small differences within the trained length may be chance. No figure "
        "below was used to choose the training.\n",
        table(["encoding", "parameters", "training tokens", "seconds of one core", "held-out loss"], facts) + "\n",
        f"The loss is in nats per token, over the positions 0 to {trained - 1}.\n",
        "## Loss by position\n",
        f"{told['passages']} passages of {longest} tokens cover the packed held-out stories; each is read from "
        f"{told['starting_places']} starting places, {longest // told['starting_places']} tokens apart, {longest} "
        "tokens each time. So each token is predicted at positions all along the text, and the curves compare "
        "positions, not texts. ± is the half width of the 95% interval: 1.96 standard errors of the mean over "
        "passages.\n",
        table(["encoding", *(f"{b * width}–{b * width + width - 1}" for b in AT)], places) + "\n",
        f"How much the loss rises from the last trained positions ({trained - width}–{trained - 1}) to the last of "
        f"twice and of four times the length, each passage compared with itself (mean and 95% interval):\n",
        table(["encoding", f"at {2 * trained}", f"at {4 * trained}"], rises) + "\n",
        verdicts(told) + "\n",
        f"A story has {told['held_out_tokens'] / told['held_out_stories']:.0f} tokens on average, so there is little "
        "to gain from reading further back than that: what a model can show here is that it does not get worse.\n",
        "## Who uses the order\n",
        f"{told['predictions']:,} times the next token is predicted after {trained} held-out tokens, in order and with "
        "their words shuffled, all but the last few. How much the loss rises (mean and 95% interval over predictions), "
        "by how many words stay in place:\n",
        table(["encoding", *(f"the last {k}" if int(k) > 1 else "the last one" for k in stayed)], order) + "\n",
        order_used(told) + "\n",
        "## Use them, train them again\n",
        "```python\nfrom attention_core.variants import load_variant, results\n\n"
        'lm = load_variant("alibi")  # or load_variant("none", causal=False): an encoder\n'
        'results()["alibi"].loss  # nats per token, by bin of positions\n```\n',
        "```bash\npython -m training.train_positions      # writes weights, tokenizer, logs\n"
        "python -m training.measure_positions    # writes this card, results.json and passages.npy\n"
        "pytest tests/test_positions_models.py   # do the weights still give these figures?\n```\n",
    ]
    return "\n".join(parts)
