"""A worksheet as steps: for each a title, at most two sentences, its picture, its formulas and a question.

The page and the printed sheet show the very same steps. Knows nothing about how they are drawn.
"""

from dataclasses import replace

from ..lens import Lens
from ..worksheet import Worksheet
from . import to_output, to_scores
from .blocks import Keys, written
from .step import Question, Step, Table, rows_of, strongest_key

__all__ = ["Question", "Step", "Table", "all_steps", "covered", "strongest_key", "verdict"]


def all_steps(
    sheet: Worksheet,
    key: int,
    who: str,
    lens: Lens | None = None,
    temperature: float = 1.0,
    moved: int | None = None,
    guessing: bool = False,
) -> list[Step]:
    """The steps of a worksheet, in their order.

    key: the place of the chosen key; who: the head's name, "Layer 2, head 1"; lens: for the last step, where the model
    writes; moved: another place for the query's token; guessing: no step tells what a later one asks.
    """
    rows = rows_of(sheet, key)
    steps = [
        to_scores.vectors(sheet, key, who),
        to_scores.positions(sheet, key, rows, moved, not guessing),
        to_scores.compare(sheet, key, rows),
        to_scores.scale(sheet, key, rows),
        to_scores.cap(sheet, key, rows) if sheet.layer.softcap is not None else None,
        to_scores.bias(sheet, key, rows) if sheet.bias is not None and bool(sheet.bias.any()) else None,
        to_scores.mask(sheet, rows),
        to_output.softmax(sheet, key, rows, temperature),
        to_output.sink(sheet, rows) if sheet.sink is not None else None,
        to_output.blend(sheet, rows),
        to_output.hand_on(sheet, who),
        to_output.proof(sheet),
        to_output.around(sheet, lens),
    ]
    return [step for step in steps if step is not None]


def covered(step: Step) -> Step:
    """The step as it is shown until somebody has guessed: without whatever tells the answer."""
    keys = tuple(replace(block, covered=step.hides, more="") for block in step.blocks if isinstance(block, Keys))
    sentences = step.sentences[:-1] if step.tells else step.sentences
    return replace(step, sentences=sentences, blocks=keys, formulas=(), numbers=None)


def verdict(question: Question, guess: float) -> str:
    """A guess beside the answer, and the distance."""
    if not question.options:
        said, answer = written(guess, "g"), written(question.answer, ".3f")
        apart = written(abs(guess - question.answer), ".3f")
        return f"You said {said}{question.unit}; it is {answer}{question.unit}: {apart} away."
    given, answer_at = int(guess), int(question.answer)
    if given == answer_at:
        return f"Right: it is {question.options[given]}."
    ours, theirs = question.scores[given], question.scores[answer_at]
    return (
        f"You said {question.options[given]}, with {written(ours, '.3f')}; it is {question.options[answer_at]}, with "
        f"{written(theirs, '.3f')}: {written(theirs - ours, '.3f')} more."
    )
