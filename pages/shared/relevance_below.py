"""Under the bars of "Relevance": which of them to believe, and which layers and heads wrote the target."""

import json
from functools import cache
from pathlib import Path

import streamlit as st

from attention_core.attribution import METHODS, Explanation
from attention_core.credibility import Curves, Verdict, rank_agreement, top_count, top_overlap, verdict
from attention_core.figures import direct_figures, relevance_figures
from attention_core.figures import relevance_words as words
from attention_core.figures.planted_words import planted_in_words, planted_table
from attention_core.figures.relevance_tables import agreement_table, curves_table, points_table
from attention_core.jobs import Apart, Ordered

from . import frame, selection
from .coming import Coming
from .drawn import colours, opened, plot
from .messages import sentence, told
from .options import BELOW
from .relevance_bars import Answers, to_heads
from .relevance_place import RelevancePlace

HEADS_NAMED = 4
MEASURED = Path(__file__).parents[2] / "assets" / "lookup" / "measurements.json"


def below(place: RelevancePlace, answers: Answers, coming: Coming) -> None:
    names = list(BELOW) if place.writes else ["test"]
    if len(names) > 1:
        st.segmented_control(
            "Look further",
            names,
            key="below",
            format_func=BELOW.get,
            required=True,
            label_visibility="collapsed",
            on_change=selection.changed,
        )
    if place.writes and st.session_state.below == "layers":
        with st.container(key="below-layers"):
            layers(place, answers, coming)
    else:
        with st.container(key="below-test"):
            credibility(place, answers, coming)


# ── which to believe ────────────────────────────────────────────────────────────────────────────────────────────────


def credibility(place: RelevancePlace, answers: Answers, coming: Coming) -> None:
    found = {name: one for name, one in answers.found.items() if name not in answers.growing}
    if not found:
        return
    engine, baseline = frame.engine(), st.session_state.baseline
    random_job = coming.ask(engine.ordered(Ordered(place.about, baseline), None))
    jobs = {n: coming.ask(engine.ordered(Ordered(place.asked(n), baseline), e)) for n, e in found.items()}
    curves: dict[str, Curves] = {}
    for name, job in jobs.items():
        drawn, _ = coming.now(job)
        if drawn is not None:
            curves[METHODS[name].title] = drawn
    random, _ = coming.now(random_job)
    verdicts: dict[str, Verdict] = {
        title: verdict(part, random) for title, part in curves.items() if random is not None
    }
    with st.container(key="verdicts"):
        told(
            "Take the tokens away, the most relevant first",
            [
                "Good bars name the tokens without which the target falls, and with which alone it comes back: the "
                "area between the two curves is large. Of random orders the middle 90% are shown."
            ],
        )
        if verdicts:
            said, areas = st.columns([3, 2], gap="large", vertical_alignment="center")
            with said:
                sentence("\n".join(words.verdict_in_words(title, judged) for title, judged in verdicts.items()))
            with areas:
                figure = relevance_figures.areas_figure(verdicts, colours())
                plot(figure, "areas", relevance_figures.areas_in_words(verdicts))
    with st.container(key="curves"):
        if curves:
            draw_curves(curves, random, answers)
    agreement(list(found.values()))
    with st.container(key="not_an_explanation"):
        attention, occlusion = found.get("attention"), found.get("occlusion")
        judged_attention = verdicts.get(METHODS["attention"].title)
        heading("Attention is not an explanation")
        for line in words.attention_paragraph(answers.aim, attention, occlusion, judged_attention):
            sentence(line)
    with st.container(key="known_answer"):
        where_the_answer_is_known()
    if verdicts:
        opened(
            "All areas and points",
            "areas_numbers",
            lambda: curves_table(verdicts),
            lambda: points_table(curves, random),
        )


def draw_curves(curves: dict[str, Curves], random: Curves | None, answers: Answers) -> None:
    watched, share = words.watched_in_words(answers.aim), answers.aim.kind == "next"
    for column, what in zip(st.columns(2, gap="large"), ("deletion", "insertion"), strict=True):
        with column:
            figure = relevance_figures.curves_figure(curves, random, what, watched, colours(), share)
            said = relevance_figures.curves_in_words(curves, random, what, share)
            plot(figure, what, said)
            sentence(said)


def agreement(explanations: list[Explanation]) -> None:
    with st.container(key="agreement"):
        if len(explanations) < 2:
            return
        scores = [explanation.scores for explanation in explanations]
        names = [METHODS[explanation.method].title for explanation in explanations]
        count = top_count(len(scores[0]))
        ranks, overlap = rank_agreement(scores), top_overlap(scores, count)
        heading("How far they agree")
        sentence("\n".join(words.agreement_in_words(names, ranks, overlap, count)))
        if len(names) > 3:
            said = relevance_figures.agreement_map_in_words(names, ranks)
            plot(relevance_figures.agreement_figure(names, ranks, colours()), "agreement_map", said)
        opened(
            "Agreement in numbers",
            "agreement_numbers",
            lambda: agreement_table(names, ranks, overlap, count),
        )


def heading(text: str) -> None:
    sentence(text, "heading")


@cache
def measured() -> dict:
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def where_the_answer_is_known() -> None:
    """What each method reaches on a task in which one token alone decides."""
    heading("Where the answer is known")
    sentence(" ".join(planted_in_words(measured())))
    opened("The planted task in numbers", "planted_numbers", lambda: planted_table(measured()))


# ── layers and heads ────────────────────────────────────────────────────────────────────────────────────────────────


def layers(place: RelevancePlace, answers: Answers, coming: Coming) -> None:
    found, why = coming.now(coming.ask(frame.engine().apart(Apart(place.about), place.capture)))
    if found is None:
        sentence(why or "The target’s score is being taken apart …")
        return
    said = direct_figures.direct_in_words(found, answers.aim)
    told(said[0].rstrip("."), said[1:])
    with st.container(horizontal=True, key="writers"):
        for layer, head, value in direct_figures.strongest_heads(found, HEADS_NAMED):
            label = f"Layer {layer}, head {head}: {words.amount(value)}"
            to_heads(place, label, kind="decoder", layer=layer, head=head, token=place.token)
    left, right = st.columns(2, gap="large")
    with left:
        if any(part.heads is not None for part in found.layers):
            plot(direct_figures.heads_figure(found, colours()), "direct_heads", " ".join(said))
        plot(direct_figures.parts_figure(found, colours()), "direct_parts", " ".join(said))
    with right:
        lens = direct_figures.lens_in_words(found, answers.aim)
        plot(direct_figures.lens_figure(found, answers.aim, colours()), "target_lens", " ".join(lens))
        sentence(" ".join(lens))
    opened(
        "Every layer in numbers",
        "direct_numbers",
        lambda: direct_figures.direct_table(found),
        lambda: direct_figures.lens_table(found, answers.aim),
    )
