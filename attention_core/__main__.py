"""Headlight on the command line: python -m attention_core "text" --model small --layer 2 --head 1 --csv -"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from transformers.utils import logging

from . import export
from .errors import HeadlightError
from .figures.captions import caption_of, entry_names
from .figures.standalone import standalone_html
from .figures.words import layer_name, percent, row_in_words
from .memory import DTYPES
from .models import CATALOGUE, load_model
from .record import Capture

PICTURES, NUMBERS = ("png", "svg", "pdf"), export.FORMS
OUTPUTS = (*NUMBERS, *PICTURES, "html", "save")
CELLS_UP_TO = 256  # tokens; beyond, a cell of a picture stands for several
HEADS_LISTED = 10


@dataclass(frozen=True)
class Chosen:
    """What is looked at: an entry of capture.layers, a head of it, a query token."""

    entry: int
    head: int
    token: int


def parser() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(
        prog="python -m attention_core",
        description="Read a text with a model and show what an attention head looks at: in words, as numbers, pictures "
        "or a page of its own. Layers, heads and tokens count from 0.",
    )
    line.add_argument("text", nargs="?", help="the text to read")
    line.add_argument("--file", metavar="PATH", help="a text file to read instead (- for standard input)")
    line.add_argument("--second", default="", metavar="TEXT", help="the second text of a pair, for encoders")
    line.add_argument("--target", default="", metavar="TEXT", help="what the decoder of an encoder-decoder reads")
    line.add_argument("--model", default="small", help=f"{', '.join(CATALOGUE)}; a folder, a .gguf file or a Hub id")
    line.add_argument("--dtype", default="float32", choices=DTYPES, help="how the weights are kept (default: float32)")
    line.add_argument("--kind", choices=("encoder", "decoder", "cross"), help="where a model has several kinds")
    line.add_argument("--layer", type=int, help="the model's layer; without it, all of them")
    line.add_argument("--head", type=int, help="a head of that layer; without it, all of them")
    line.add_argument("--token", type=int, help="the query token (default: the last)")
    files = line.add_argument_group("what to write (PATH - is standard output); without any, a sentence")
    about = {"save": "the whole run, to be opened again without the model", "html": "a page that needs no network"}
    for name in OUTPUTS:
        help = about.get(name, f"the {'weights' if name in NUMBERS else 'heat map'} as {name.upper()}")
        files.add_argument(f"--{name}", metavar="PATH", help=help)
    return line


def arguments(given: list[str] | None) -> argparse.Namespace:
    line = parser()
    args = line.parse_args(given)
    if (args.text is None) == (args.file is None):
        line.error("give a text, or --file with the path of one")
    if args.head is not None and args.layer is None:
        line.error("--head needs --layer")
    if any(getattr(args, form) for form in PICTURES) and args.head is None:
        line.error("a picture shows one head: add --layer and --head")
    if sum(getattr(args, name) == "-" for name in OUTPUTS) > 1:
        line.error("standard output can take one file only")
    return args


def text_of(args: argparse.Namespace) -> str:
    if args.file is None:
        return args.text
    try:
        packed = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
        return packed.decode("utf-8-sig")
    except OSError as error:
        raise HeadlightError(f"{args.file} cannot be read ({error.strerror}): give the path of a text file.") from error
    except UnicodeDecodeError as error:
        raise HeadlightError(f"{args.file} is no UTF-8 text: save it as UTF-8.") from error


def read(args: argparse.Namespace) -> Capture:
    """The text through the model. What libraries say meanwhile must not end up among the numbers."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    text = text_of(args)
    with redirect_stdout(sys.stderr):
        return load_model(args.model, dtype=args.dtype).capture(text, target=args.target, second=args.second)


def entry_of(capture: Capture, kind: str | None, layer: int) -> int:
    """The entry of capture.layers that is meant by a kind and a layer; the decoder's own where no kind is named."""
    of_kind = [i for i, one in enumerate(capture.layers) if kind in (None, one.kind)]
    found = [i for i in of_kind if capture.layers[i].layer == layer]
    if not found:
        named = ", ".join(dict.fromkeys(entry_names(capture)[i] for i in of_kind))
        there = f"It has {named}." if named else f"It has no attention of the kind {kind}."
        raise HeadlightError(f"{capture.name} has no such layer {layer}. {there} Choose one of these.")
    return min(found, key=lambda i: ("decoder", "encoder", "cross").index(capture.layers[i].kind))


def default_token(capture: Capture, entry: int) -> int:
    """The last token; of an encoder the one before it, since it ends with its separator."""
    queries = capture.layers[entry].shape[1]
    return queries - 1 if capture.predicts else max(0, queries - 2)


def strongest_heads(
    capture: Capture, kind: str | None, layer: int | None, token: int | None
) -> list[tuple[float, Chosen]]:
    """Heads whose query token looks most at one other token; the first one, where many heads rest, left out."""
    found = []
    for i, one in enumerate(capture.layers):
        if kind not in (None, one.kind) or layer not in (None, one.layer):
            continue
        at = default_token(capture, i) if token is None else token
        if not 0 <= at < one.shape[1]:
            continue
        weights = one.weights(slice(None), slice(at, at + 1), slice(None))[:, 0].cpu()  # (heads, keys)
        weights[:, 0] = 0
        if one.kind != "cross":
            weights[:, one.key_positions.cpu() == at + int(one.key_positions[-1]) + 1 - one.shape[1]] = 0
        found += [(float(most), Chosen(i, head, at)) for head, most in enumerate(weights.amax(dim=-1))]
    return sorted(found, key=lambda pair: -pair[0])


def choose(capture: Capture, args: argparse.Namespace) -> Chosen:
    """The head and token that were named; what was not is the head that looks most at one other token."""
    if args.head is not None:
        entry = entry_of(capture, args.kind, args.layer)
        chosen = Chosen(entry, args.head, default_token(capture, entry) if args.token is None else args.token)
    else:
        if args.layer is not None:
            entry_of(capture, args.kind, args.layer)
        listed = strongest_heads(capture, args.kind, args.layer, args.token)
        if not listed:
            raise HeadlightError(f"No head has a token {args.token} to look from: choose another --kind or --token.")
        chosen = listed[0][1]
    heads, queries, _ = capture.layers[chosen.entry].shape
    name = entry_names(capture)[chosen.entry]
    if not 0 <= chosen.head < heads:
        raise HeadlightError(f"There is no head {chosen.head} in {name}: choose 0 to {heads - 1}.")
    if not 0 <= chosen.token < queries:
        raise HeadlightError(f"There is no token {chosen.token} in {name}: choose 0 to {queries - 1}.")
    return chosen


def in_words(capture: Capture, chosen: Chosen, args: argparse.Namespace) -> str:
    """The chosen row in a sentence, and the heads that look most at one token."""
    entry, head, token = chosen.entry, chosen.head, chosen.token
    row, layer, queries = slice(token, token + 1), capture.layers[entry], capture.query_tokens(entry)
    weights = np.where(capture.visible(entry, head, row)[0], capture.attention(entry, head, row)[0], np.nan)
    who = f"{layer_name(layer, len({one.kind for one in capture.layers}) > 1)}, head {head}"
    said = [row_in_words(who, [(token, queries[token])], capture.key_tokens(entry), weights, range(len(weights)))]
    said += ["", "The heads that look most at one token (itself and the first one left out):"]
    for most, one in strongest_heads(capture, args.kind, None, args.token)[:HEADS_LISTED]:
        seen = capture.attention(one.entry, one.head, slice(one.token, one.token + 1))[0]
        key = int(np.flatnonzero(seen.numpy() == np.float32(most))[0])
        name = f"{entry_names(capture)[one.entry]}, head {one.head}"
        asks = capture.query_tokens(one.entry)[one.token]
        said.append(f"{percent(most):>7}  {name}: “{asks}” → “{capture.key_tokens(one.entry)[key]}” (token {key})")
    return "\n".join(said) + "\n"


def picture(capture: Capture, chosen: Chosen, form: str) -> bytes:
    """The head's heat map; of a long text, the largest weight of each block of tokens."""
    from .figures.paper import as_bytes  # matplotlib is slow to import
    from .figures.printed import heatmap

    entry, head = chosen.entry, chosen.head
    queries, keys, notes = capture.query_tokens(entry), capture.key_tokens(entry), []
    token = chosen.token
    if max(len(queries), len(keys)) <= CELLS_UP_TO:
        weights = np.where(capture.visible(entry, head), capture.attention(entry, head), np.float32(np.nan))
    else:
        weights = capture.pooled(entry, head, CELLS_UP_TO).numpy()
        rows, columns = weights.shape
        notes = ["Each cell is the largest weight of several tokens."]
        token = token * rows // len(queries)
        queries = [queries[i * len(queries) // rows] for i in range(rows)]
        keys = [keys[i * len(keys) // columns] for i in range(columns)]
    title = f"{entry_names(capture)[entry]}, head {head}".capitalize()
    caption = caption_of(capture, entry, head, notes)
    return as_bytes(heatmap(weights, queries, keys, title=title, caption=caption, row=token), form)


def write(path: str, what: bytes | Callable[[IO[bytes]], None]) -> None:
    """Bytes, or whatever fills a file, into a file or (-) to standard output."""

    def fill(file: IO[bytes]) -> None:
        if isinstance(what, bytes):
            file.write(what)
        else:
            what(file)

    if path == "-":
        fill(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as file:
            fill(file)
    except OSError as error:
        raise HeadlightError(f"{path} cannot be written ({error.strerror}): give another path.") from error


def run(args: argparse.Namespace) -> None:
    capture = read(args)
    chosen = choose(capture, args)
    entry = None if args.layer is None else chosen.entry
    wanted = {name: getattr(args, name) for name in OUTPUTS if getattr(args, name)}
    for name, path in wanted.items():
        if name in NUMBERS:
            export.check_count(capture, entry, args.head)  # before a file is opened
            write(path, partial(_fill_numbers, capture, name, entry, args.head, path))
        else:
            write(path, _page_or_picture(capture, chosen, name))
    if not wanted:
        write("-", in_words(capture, chosen, args).encode("utf-8"))


def _fill_numbers(capture: Capture, form: str, entry: int | None, head: int | None, path: str, file: IO[bytes]) -> None:
    if form == "csv" and path != "-":
        file.write(export.UTF8_MARK)
    export.write_numbers(capture, form, file, entry, head)


def _page_or_picture(capture: Capture, chosen: Chosen, name: str) -> bytes:
    if name == "save":
        return capture.to_bytes()
    if name == "html":
        page = standalone_html(capture, entry=chosen.entry, head=chosen.head, token=chosen.token)
        return page.encode("utf-8")
    return picture(capture, chosen, name)


def main(given: list[str] | None = None) -> int:
    """Runs a command line; → 0, or 1 where it could not be done. A wrong command line exits with 2."""
    args = arguments(given)
    try:
        run(args)
    except HeadlightError as error:
        print(f"attention_core: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # whoever read has read enough; what Python flushes at its end must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
