"""A run of generation in sentences: what a step read, wrote, reused and chose. Knows nothing about pages."""

from collections.abc import Sequence

from ..run import DecodeStep, Run
from .words import percent


def counted(count: int, thing: str) -> str:
    """ "1 row", "12 rows"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def row_tokens(run: Run, at: int) -> list[str]:
    """Display strings of every token read up to a step, the prompt first."""
    return run.facts.names([token for step in run.steps[: at + 1] for token in step.input_tokens])


def read_at(run: Run, place: int) -> int | None:
    """The step that read the token at a place; None: none did yet."""
    return next((step.number for step in run.steps if place < step.read), None)


def step_in_words(step: DecodeStep) -> list[str]:
    """What the step did to the cache, and what it chose."""
    with_rows = [kept for kept in step.kept if kept is not None]
    where = f"in each of {counted(len(with_rows), 'layer')}" if len(with_rows) > 1 else "in its layer"
    new, old = len(step.computed), step.computed.start
    if not with_rows:
        wrote = f"It read {counted(new, 'token')}; no layer keeps rows."
    elif not old:
        wrote = (
            f"The prefill, the reading of the text, took {'all ' if new > 1 else ''}{counted(new, 'token')} at once "
            f"and wrote {counted(new, 'row')} of K and of V {where}."
        )
    else:
        kept = "untouched" if step.untouched else "changed by the model’s own cache"
        wrote = (
            f"It read “{step.input_texts[-1]}” ({old}) and wrote one row of K and one of V {where}; "
            f"the {counted(old, 'row')} before {'is' if old == 1 else 'are'} reused, {kept}."
        )
    return [wrote, chosen_in_words(step)]


def chosen_in_words(step: DecodeStep) -> str:
    found = next(c for c in step.candidates if c.token == step.token)
    how = "was set to" if step.forced else "chose"
    subject = "The next token" if step.forced else "It"
    after = f" {step.ends}" if step.ends else " The next step reads it."
    return f"{subject} {how} “{step.text}” ({percent(found.after)}), which has no row yet.{after}"


def candidates_in_words(step: DecodeStep) -> list[str]:
    """One sentence a candidate."""
    words = []
    for c, text in zip(step.candidates, step.candidate_texts, strict=True):
        share = percent(c.after)
        if step.facts.sampling.do_sample:
            share += f", before temperature, top-k and top-p {percent(c.before)}"
        taken = ": set by you" if step.forced else ": chosen"
        end = taken if c.token == step.token else ": choose it and the run goes on from there"
        words.append(f"“{text}”, {share}{end}")
    return words


def steps_in_words(run: Run) -> list[str]:
    """A few words a step: what was read and what was chosen."""
    chosen = run.texts
    how = ["set to" if step.forced else "chose" for step in run.steps]
    first = f"read {counted(len(run.steps[0].input_tokens), 'token')}, {how[0]} “{chosen[0]}”"
    rest = [f"read “{chosen[n - 1]}”, {how[n]} “{chosen[n]}”" for n in range(1, len(chosen))]
    return [first, *rest]


def forgets_in_words(forgotten: Sequence[str], first: int) -> str:
    """Rows that the last query saw and that the window has dropped right after."""
    names = " and ".join(f"“{token}” ({first + i})" for i, token in enumerate(forgotten))
    return f"Right after this step the window forgot {names}."
