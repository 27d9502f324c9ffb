"""The formulas of the printable sheet, for browsers and as a LaTeX document, read by a parser that is not ours."""

import re
import xml.etree.ElementTree as ET

import pytest
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from attention_core.figures.sheet import escaped, latex_of, mathml
from tests.test_sheet import MATH, NAMES, NASTY, made, plain, words

MACROS = {"textless": "<", "textgreater": ">", "textbar": "|", "textquotedbl": '"', "textasciicircum": "^"}
MACROS |= {"textperiodcentered": "·", "textasciigrave": "`", "textquotesingle": "'", "surd": "√"}
READ = get_default_latex_context_db()  # and what else LaTeX itself calls letters
READ.add_context_category("letters", macros=[MacroTextSpec(*one) for one in MACROS.items()], prepend=True)


# ── formulas ──


def test_signs_stand_close_and_lines_may_end():
    source = mathml(r"a_0 = (-0.5) \cdot 2 + 3 - 4 + \dots = -\infty")
    pieces = source.split("<wbr>")
    assert [words(ET.fromstring(piece)) for piece in pieces] == ["a0", "=(−0.5)·2", "+3−4", "+…", "=−∞"]
    signs = [one.get("form") for piece in pieces for one in ET.fromstring(piece).iter(f"{MATH}mo") if one.text == "−"]
    assert signs == ["prefix", None, "prefix"]


def test_a_prime_is_no_superscript():
    for latex, shown in ((r"s'_k", "s′k"), (r"x'", "x′")):
        tree = ET.fromstring(mathml(latex))
        assert words(tree) == shown and not list(tree.iter(f"{MATH}msup")) + list(tree.iter(f"{MATH}msubsup"))


# ── LaTeX ──


@pytest.mark.parametrize("name", NAMES)
def test_the_latex_is_whole(name):
    steps = made(name)[0]
    title = f"Layer 2, head 2: “{''.join(NASTY)}” (7)"
    source = latex_of(steps, title)
    nodes, _, _ = LatexWalker(source, tolerant_parsing=False).get_latex_nodes()
    document = next(node for node in nodes if isinstance(node, LatexEnvironmentNode))
    assert document.environmentname == "document" and r"\usepackage{amsmath}" in source
    for step in steps:
        for formula in step.formulas:
            assert rf"\[ {formula.letters} \]" in source and rf"\[ {formula.filled} \]" in source
            LatexWalker(rf"\[{formula.letters}\] \[{formula.filled}\]", tolerant_parsing=False).get_latex_nodes()
        assert all(escaped(sentence) in source for sentence in (step.title, *step.sentences))
    strange = {letter for letter in "".join(NASTY) if ord(letter) > 0x17F or letter == "ħ"}
    assert all(f"DeclareUnicodeCharacter{{{ord(letter):04X}}}" in source for letter in strange)


@pytest.mark.parametrize(
    "token", [*NASTY, "\\end{document}", "{", "}", "|", "\n", "·the", "−∞ √ × → ω …", "“q”", "10⁻⁷"]
)
def test_words_stay_words_in_latex(token):
    source = escaped(f"a {token} b")
    assert not re.search(r"(?<!\\)[%#&]", source)
    LatexWalker(source, tolerant_parsing=False).get_latex_nodes()
    read = LatexNodes2Text(latex_context=READ, math_mode="text").latex_to_text(source)
    assert plain(read) == plain(f"a {token} b".replace("−", "-").replace("⁻⁷", "^-7"))
