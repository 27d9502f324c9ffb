"""A Hub id: from this machine, from a small Hub of our own on localhost, or in a sentence within five seconds."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from attention_core import HeadlightError, hub, load_model
from tests.tiny import letters, tiny

ROOT = Path(__file__).parents[1]
COMMIT = "a1b2c3d4e5" * 4


class Hub(ThreadingHTTPServer):
    """Speaks as much of the Hub's API as a download needs. Its models are folders: root/owner/name."""

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Answer)
        self.root, self.asked = root, []  # paths of the files that were fetched
        self.hangs = False
        self.start()

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @contextmanager
    def gone(self):
        """Nobody listens at its address meanwhile."""
        self.shutdown()
        self.server_close()
        yield
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()
        self.start()


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool):
        if self.server.hangs:
            time.sleep(30)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.describe("/".join(parts[2:4]), tree="tree" in parts)
        name, file = "/".join(parts[:2]), self.server.root / "/".join(parts[:2]) / "/".join(parts[4:])
        if name == "owner/gated":
            return self.send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept the terms"}, body)
        data = file.read_bytes()
        if body:
            self.server.asked.append("/".join(parts[4:]))
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self.send(200, data, headers, body)

    def describe(self, name: str, tree: bool):
        folder = self.server.root / name
        if not folder.exists():
            return self.send(404, b'{"error": "none"}', {"X-Error-Code": "RepoNotFound"}, True)
        files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        if tree:
            found = [{"type": "file", "path": f, "size": n, "oid": f"{n:040x}"} for f, n in files.items()]
        else:
            siblings = [{"rfilename": f, "size": n, "blobId": f"{n:040x}"} for f, n in files.items()]
            found = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False}
        self.send(200, json.dumps(found).encode(), {"Content-Type": "application/json"}, True)

    def send(self, status: int, data: bytes, headers: dict[str, str], body: bool):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A Hub with two good models (and files that nobody needs), one of pickles, of GGUF files, one behind terms."""
    root = tmp_path_factory.mktemp("hub")
    good = root / "owner" / "good"
    tiny().save_pretrained(good)
    letters().save_pretrained(good)
    for name in ("README.md", "model.py", "pytorch_model.bin", "onnx/model.onnx", "onnx/config.json"):
        (good / name).parent.mkdir(exist_ok=True)
        (good / name).write_bytes(b"never fetched")
    for name, file in {"pickled": "pytorch_model.bin", "ggufs": "q4.gguf", "empty": "README.md"}.items():
        folder = root / "owner" / name
        folder.mkdir()
        shutil.copy(good / "config.json", folder)
        (folder / file).write_bytes(b"x")
    for name in ("gated", "half"):
        shutil.copytree(good, root / "owner" / name)
    running = Hub(root)
    yield running
    running.shutdown()


@pytest.fixture
def server(running):
    running.asked.clear()
    return running


CHILD = """
import json, sys, time
answers, sys.stdout = sys.stdout, sys.stderr
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from attention_core import HeadlightError, hub, load_model

def tried(call):
    start = time.monotonic()
    try:
        return eval(call), time.monotonic() - start
    except HeadlightError as error:
        return str(error), time.monotonic() - start

def load(name):
    said = []
    lm = load_model(name, said.append)
    return {"name": lm.name, "revision": lm.revision, "said": said, "norm": float(lm.model.lm_head.weight.norm()),
            "tokens": lm.capture("ab").tokens}

for calls in sys.stdin:
    print(json.dumps([tried(call) for call in json.loads(calls)]), file=answers, flush=True)
"""


class Reader:
    """A process that reads models. Its Hub is at an address that is read when huggingface_hub is imported."""

    def __init__(self, name: str, home: Path, endpoint: str, **environment: str):
        clean = {n: v for n, v in os.environ.items() if not n.startswith("HF_") and not n.lower().endswith("_proxy")}
        clean |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "TRANSFORMERS_OFFLINE": "0"} | environment
        self.home, self.errors = home, home / f"{name}.txt"
        with self.errors.open("w") as errors:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "text": True}
            self.process = subprocess.Popen([sys.executable, "-c", CHILD, str(ROOT)], env=clean, **pipes)

    def ask(self, *calls: str) -> list:
        """What the calls return or refuse, and their seconds."""
        late = threading.Timer(120, self.process.kill)
        late.start()
        print(json.dumps(calls), file=self.process.stdin, flush=True)
        answers = self.process.stdout.readline()
        late.cancel()
        assert answers, self.errors.read_text()[-3000:]
        return json.loads(answers)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def readers(running, tmp_path_factory):
    """Processes that are online, offline on the same machine, and where the Hub has no address: each imports once."""
    address, home = f"http://127.0.0.1:{running.server_port}", tmp_path_factory.mktemp("home")
    online, lost = Reader("online", home, address), Reader("lost", home, "http://hub.invalid")
    offline = Reader("offline", home, address, HF_HUB_OFFLINE="1")
    yield {"online": online, "offline": offline, "lost": lost}
    for reader in (online, offline, lost):
        reader.close()


def test_a_model_is_downloaded_once(server, readers):
    good = server.root / "owner" / "good"
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    size = sum((good / name).stat().st_size for name in wanted)
    calls = ("hub.hub_size('owner/good')", "load('owner/good')", "hub.hub_size('owner/good')")
    before, loaded, after = (answer for answer, _ in readers["online"].ask(*calls))
    assert (before, after) == (size, 0)
    assert set(server.asked) == wanted and len(server.asked) == len(wanted), "no code, no pickle, nothing twice"
    assert (loaded["name"], loaded["revision"], loaded["tokens"]) == ("owner/good", COMMIT, ["a", "b"])
    assert loaded["norm"] == pytest.approx(tiny().lm_head.weight.norm().item(), abs=1e-6)
    assert any("Downloading owner/good: " in line and "MB" in line for line in loaded["said"])
    with server.gone():  # it is read from this machine
        (again, _), (here, _) = readers["offline"].ask("load('owner/good')", "hub.hub_size('owner/good')")
    assert again["norm"] == loaded["norm"] and again["revision"] == COMMIT and here == 0
    assert not any("Downloading" in line for line in again["said"])


def test_each_refusal_has_its_sentence(server, readers):
    sentences = {
        "load('owner/none')": "The Hub has no model owner/none, or it is private: check the name",
        "hub.hub_size('owner/none')": "The Hub has no model owner/none",
        "load('owner/gated')": "is given only to those who accept its terms: accept them on its page",
        "load('owner/pickled')": "has only pickled weights. Such a file can run code when it is opened",
        "hub.hub_size('owner/pickled')": "has only pickled weights",
        "load('owner/ggufs')": "has no safetensors but GGUF files: download one of them and give its path",
        "load('owner/empty')": "has no model.safetensors: choose a model of transformers",
    }
    answers = readers["online"].ask(*sentences)
    for sentence, (answer, _) in zip(sentences.values(), answers, strict=True):
        assert sentence in str(answer) and len(answer) < 500
    assert not any(file.endswith((".bin", ".gguf", ".py")) for file in server.asked)


def test_a_half_download_is_completed(server, readers):
    readers["online"].ask("load('owner/half')")
    kept = next(readers["online"].home.rglob("models--owner--half/snapshots/*/model.safetensors"))
    kept.resolve().unlink()
    kept.unlink()
    (size, _), (loaded, _) = readers["online"].ask("hub.hub_size('owner/half')", "load('owner/half')")
    assert size == (server.root / "owner" / "half" / "model.safetensors").stat().st_size
    assert loaded["revision"] == COMMIT and server.asked.count("model.safetensors") == 2
    assert server.asked.count("config.json") == 1


UNREACHABLE = "owner/else is not on this machine and the Hub cannot be reached"


@pytest.mark.parametrize("why", ["hangs", "refuses", "has no address", "is switched off"])
def test_without_the_hub_the_answer_comes_within_five_seconds(server, readers, why):
    reader = readers[{"is switched off": "offline", "has no address": "lost"}.get(why, "online")]
    server.hangs = why == "hangs"
    with server.gone() if why == "refuses" else nullcontext():
        (said, seconds), (size, more) = reader.ask("load('owner/else')", "hub.hub_size('owner/else')")
    server.hangs = False
    assert said.startswith(UNREACHABLE) and said.endswith("connect, or give a folder.")
    assert size is None and max(seconds, more) < 5
    assert ("HF_HUB_OFFLINE is set" in said) == (why == "is switched off") and len(said) < 500


def test_a_name_server_that_never_answers(monkeypatch, tmp_path):
    """No timeout of a library holds there: the thread that asks is left behind."""
    released = threading.Event()
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *args, **kwargs: released.wait(60))
    monkeypatch.setattr(hub, "_here", lambda name: None)
    start = time.monotonic()
    with pytest.raises(HeadlightError, match=f"{UNREACHABLE} .no answer in 4 seconds.: connect, or give a folder"):
        load_model("owner/else")
    assert time.monotonic() - start < 5
    released.set()


@pytest.mark.parametrize(
    "name, expected",
    {"a/b": True, "a": False, "a/b/c": False, "../b": False, "/a/b": False, "a b/c": False, "./a": False}.items(),
)
def test_what_is_a_hub_id(name, expected):
    assert hub.is_hub_id(name) == expected
