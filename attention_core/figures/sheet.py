"""All steps of a worksheet on one printable sheet: an HTML file without script, server or network; and their LaTeX.

What a step is stands in step.py, what its blocks look like in drawn.py. Tokens and texts are text, never markup.
"""

import base64
import hashlib
import html
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from latex2mathml.converter import convert

from .drawn import drawn, shades_css, text, weight_class
from .formulas import Formula
from .steps import Step, Table
from .words import percent

NAMED_FROM = 0.01  # weights that are written under their tokens
ALL_TOKENS_UP_TO = 400  # of a longer text: its ends, and what is looked at with its neighbours
HEAVIEST, NEIGHBOURS, ENDS = 40, 3, 5
FLOWS_FROM = 16  # rows of a table of numbers
_ASSETS = Path(__file__).resolve().parents[2] / "assets" / "sheet"
_MATHML = "http://www.w3.org/1998/Math/MathML"

ET.register_namespace("", _MATHML)


def sheet_html(
    steps: Sequence[Step],
    title: str,
    caption: str,
    tokens: Sequence[str],
    row: Sequence[float] | np.ndarray,
    *,
    query: int | None = None,
    key: int | None = None,
) -> str:
    """One HTML file that holds every step, for the screen and for paper.

    title: which row it is; caption: model, text, versions. tokens, row (keys,): what the row looks at and its weights,
    NaN where it cannot look. query, key: the places of the query's token (None where it is not among the tokens) and of
    the chosen key, which are marked.
    """
    dark = f"@media screen and (prefers-color-scheme: dark) {{\n{shades_css(dark=True)}\n}}"
    style = f"\n{shades_css(dark=False)}\n{dark}\n{_read('page.css')}"
    policy = f"default-src 'none'; style-src '{_sha256(style)}'; base-uri 'none'; form-action 'none'"
    return Template(_read("page.html")).substitute(
        policy=policy,
        title=html.escape(title),
        heading=text(title),
        style=style,
        caption=text(caption),
        text=_tokens(tokens, np.asarray(row, dtype=np.float64), query, key),
        steps="".join(_step(number, step, key) for number, step in enumerate(steps)),
        latex=html.escape("\n\n".join(filter(None, (_source(number, step) for number, step in enumerate(steps))))),
    )


def _read(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _sha256(style: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")


# ── the text ──


def _tokens(tokens: Sequence[str], row: np.ndarray, query: int | None, key: int | None) -> str:
    """The tokens, shaded by their weights; the larger weights in percent under them."""
    parts, last = [], -1
    for place in _shown(row, query, key):
        if place > last + 1:
            parts.append(f'<span class="quiet">… {place - last - 1:,} tokens …</span>')
        last, weight = place, float(row[place])
        roles = [name for name, at in (("query", query), ("key", key)) if at == place]
        under = [percent(weight)] if weight >= NAMED_FROM else []
        words = "".join(f"<small>{word}</small>" for word in (*under, *roles))
        shade = " ".join([weight_class(weight), *roles])
        parts.append(f'<span class="token"><bdi class="{shade}">{html.escape(tokens[place])}</bdi>{words}</span>')
    return "\n".join(parts)


def _shown(row: np.ndarray, query: int | None, key: int | None) -> list[int]:
    """Which tokens of a text are shown."""
    count = len(row)
    if count <= ALL_TOKENS_UP_TO:
        return list(range(count))
    heavy = np.argsort(-np.nan_to_num(row), kind="stable")[:HEAVIEST].tolist()
    near = {at + by for at in heavy for by in range(-NEIGHBOURS, NEIGHBOURS + 1)}
    ends = {*range(ENDS), *range(count - ENDS, count)}
    marked = {place for place in (query, key) if place is not None}
    return sorted(place for place in near | ends | marked if 0 <= place < count)


# ── a step ──


def _step(number: int, step: Step, key: int | None) -> str:
    sentences = "".join(f"<p>{text(sentence)}</p>" for sentence in step.sentences)
    title = f'<h2 id="step-{number}"><span class="which">{number}</span> {text(step.title)}</h2>'
    parts = [
        f'<div class="said">{title}{sentences}</div>\n',
        *(drawn(block, key) for block in step.blocks),
        _table(step.table, "table") if step.table else "",
        _numbers(step.numbers, f"numbers-{number}") if step.numbers else "",
        *(_formula(formula) for formula in step.formulas),
    ]
    return f'<section class="step" aria-labelledby="step-{number}">\n{"".join(parts)}</section>\n'


def _numbers(table: Table, name: str) -> str:
    """One table; a long one flows through columns, its titles repeated in each."""
    kind = "flows" if len(table.rows) >= FLOWS_FROM else "whole"
    made = _table(table, "numbers", f' aria-labelledby="{name}"')
    return f'<p class="title" id="{name}">Number by number</p><div class="{kind}">{made}</div>\n'


def _table(table: Table, kind: str, more: str = "") -> str:
    """A real table: its first column names the rows; an empty title belongs to the one before it."""
    titles: list[list] = []
    for title in table.header:
        if title or len(titles) < 2:
            titles.append([title, 1])
        else:
            titles[-1][1] += 1
    head = "".join(_title(title, wide) for title, wide in titles)
    rows = []
    for first, *others in table.rows:
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in others)
        rows.append(f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>')
    return f'<table class="{kind}"{more}><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>\n'


def _title(title: str, wide: int) -> str:
    if not title:
        return "<td></td>"
    scope = f'scope="colgroup" colspan="{wide}"' if wide > 1 else 'scope="col"'
    return f"<th {scope}>{html.escape(title)}</th>"


def _cell(words: str) -> str:
    return f"<bdi>{html.escape(words)}</bdi>" if words else ""


# ── formulas ──


def _formula(formula: Formula) -> str:
    words = f"<p>{text(formula.words)}</p>"
    return (
        f'<div class="formula"><div>{mathml(formula.letters)}</div><div>{mathml(formula.filled)}</div>{words}</div>\n'
    )


def mathml(latex: str) -> str:
    """LaTeX → MathML in pieces, between which a line may end: browsers do not break a formula themselves."""
    row = ET.fromstring(convert(latex, display="block"))[0]
    for part in list(row.iter()):
        _mended(list(part))
    pieces: list[list[ET.Element]] = [[]]
    for part in row:
        if part.tag == _tag("mo") and part.text in ("=", "+", "→") and pieces[-1]:
            part.set("form", "infix")
            pieces.append([])
        pieces[-1].append(part)
    made = []
    for piece in pieces:
        math = ET.Element(_tag("math"), {"displaystyle": "true"})
        math.append(_row(piece))
        made.append(ET.tostring(math, encoding="unicode"))
    return "<wbr>".join(made)


def _mended(parts: list[ET.Element]) -> None:
    """What latex2mathml takes for something else than it is, so that browsers set it too small or too far apart."""
    for part in parts:
        if part.tag == _tag("mo") and part.text in ("∞", "…"):
            part.tag = _tag("mi")
        elif part.tag in (_tag("msup"), _tag("msubsup")) and part[-1].text == "′":
            base, *sub, prime = part
            prime.tag = _tag("mo")  # it is small and high by itself: no superscript
            prime.attrib |= {"lspace": "0", "rspace": "0"}
            part[:] = [_row([base, prime]), *sub]
            part.tag = _tag("msub" if sub else "mrow")
    for before, part in zip(parts, parts[1:], strict=False):  # a minus that is a sign stands close to its number
        follows = before.tag in (_tag("mo"), _tag("mtext"), _tag("mspace")) and before.text != ")"
        if part.text == "−" and follows:
            part.set("form", "prefix")


def _row(parts: list[ET.Element]) -> ET.Element:
    row = ET.Element(_tag("mrow"))
    row.extend(parts)
    return row


def _tag(name: str) -> str:
    return f"{{{_MATHML}}}{name}"


# ── LaTeX ──


def _source(number: int, step: Step) -> str:
    """The filled formulas of a step as LaTeX source."""
    lines = [rf"\[ {formula.filled} \]" for formula in step.formulas]
    return "\n".join([f"% {number} {step.title}", *lines]) if lines else ""


_TYPESET = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}", "–": "--",
    "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\dots{}", "·": r"\textperiodcentered{}",
    "−": "$-$", "∞": r"$\infty$", "√": r"$\surd$", "×": r"$\times$", "→": r"$\to$", "ω": r"$\omega$",
}  # fmt: skip
_TYPESET |= {raised: f"$^{{{plain}}}$" for raised, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)}
_LATIN_UP_TO, _NOT_IN_LATIN = 0x17F, "ĦħĸĿŀŉŦŧſ"  # what pdfLaTeX's letters (T1) cover, and what of it they do not


def escaped(words: str) -> str:
    """Words as LaTeX text."""
    typeset = "".join(_TYPESET.get(letter, letter if letter.isprintable() else " ") for letter in words)
    return typeset.replace("}$$^{", "")  # 10⁻⁷: one power


def latex_of(steps: Sequence[Step], title: str) -> str:
    """A LaTeX document with every step's title, sentences and formulas, in letters and filled.

    LuaLaTeX and XeLaTeX show every letter that their font has; pdfLaTeX gets a box with its number for what it has not.
    """
    body = []
    for number, step in enumerate(steps):
        body += [rf"\section*{{{number}\quad {escaped(step.title)}}}", *map(escaped, step.sentences)]
        for formula in step.formulas:
            body += [rf"\[ {formula.letters} \]", rf"\[ {formula.filled} \]", escaped(formula.words)]
    said = {title, *(words for step in steps for words in (*step.sentences, *(one.words for one in step.formulas)))}
    letters = {letter for words in said for letter in words if letter.isprintable()} - set(_TYPESET)
    strange = sorted(letter for letter in letters if ord(letter) > _LATIN_UP_TO or letter in _NOT_IN_LATIN)
    codes = [f"{ord(letter):04X}" for letter in strange]
    boxes = [rf"  \DeclareUnicodeCharacter{{{code}}}{{\fbox{{\tiny {code}}}}}" for code in codes]
    head = [
        r"\documentclass{article}",
        r"\usepackage{amsmath}",
        r"\usepackage{iftex}",
        r"\ifPDFTeX",
        r"  \usepackage[T1]{fontenc}",
        *boxes,
        r"\else",
        r"  \usepackage{fontspec}",
        r"\fi",
        r"\setlength{\parindent}{0pt}",
        rf"\title{{{escaped(title)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
    ]
    return "\n\n".join(["\n".join(head), *body, r"\end{document}", ""])
