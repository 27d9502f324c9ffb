"""What a capture costs beside a plain forward pass, and beside eager attention with output_attentions.

    python -m benchmarks.capture           the shape of GPT-2 small, random weights, 512 to 4,096 tokens
    python -m benchmarks.capture --toy     a tiny model and few tokens, in seconds

Time: each variant in turn in one process (A B C A B C …), the median of the repeats; the ratio is the median of the
ratios of neighbours, so a machine that becomes slower half-way does not count. Memory: the largest resident size of a
fresh process that runs that one variant once, minus its size with the model loaded. First it checks that what it times
is right: capture's weights equal eager's.
"""

import argparse
import contextlib
import copy
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from attention_core import LanguageModel

SHAPE = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "n_positions": 4096}
TOY = {"n_layer": 3, "n_head": 5, "n_embd": 40, "vocab_size": 97, "n_positions": 256}
TOKENS, TOY_TOKENS = (512, 1024, 2048, 4096), (32, 64)
REPEATS = {512: 9, 1024: 7, 2048: 5, 4096: 2}
VARIANTS = ("plain", "capture", "eager")
SCORES_AT_ONCE = 3  # (heads, tokens, tokens) arrays that eager holds beside the ones it keeps


def make(shape: dict) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval()


def ids(tokens: int, shape: dict) -> torch.Tensor:
    return torch.randint(shape["vocab_size"], (1, tokens), generator=torch.Generator().manual_seed(tokens))


def runner(variant: str, model: GPT2LMHeadModel):
    """A function of the input ids that does what the variant does and returns what it keeps."""
    if variant == "capture":
        return LanguageModel(model).capture  # the self-check has run by now, as when a model is loaded
    model.set_attn_implementation("sdpa" if variant == "plain" else "eager")
    more = {"output_attentions": True} if variant == "eager" else {}

    def forward(input_ids):
        with torch.no_grad():
            return model(input_ids=input_ids, use_cache=False, logits_to_keep=1, **more)

    return forward


def check(shape: dict) -> float:
    """The largest difference between capture's weights and eager's; an error above 1e-5."""
    tokens = min(128, shape["n_positions"])
    model = make(shape)
    input_ids = ids(tokens, shape)
    own = runner("eager", copy.deepcopy(model))(input_ids)
    cap = runner("capture", model)(input_ids)
    worst = max(
        (cap.attention(i, h) - weights[0, h]).abs().max().item()
        for i, weights in enumerate(own.attentions)
        for h in range(shape["n_head"])
    )
    if worst > 1e-5:
        raise SystemExit(f"capture's weights differ from eager's by {worst:.1e}: nothing to measure.")
    return worst


def eager_bytes(tokens: int, shape: dict) -> int:
    one = shape["n_head"] * tokens * tokens * 4
    return one * (shape["n_layer"] + SCORES_AT_ONCE)


def available_bytes() -> int:
    """What the machine, or the container around us, can still give."""
    found = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable")]
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0] != "max":
        found.append(int(limit[0]) - int(used[0]))
    return min(found, default=sys.maxsize)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def measure_time(tokens: int, variants: list[str], shape: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat of every variant, run in turn."""
    input_ids, seconds = ids(tokens, shape), {variant: [] for variant in variants}
    runs = {variant: runner(variant, make(shape)) for variant in variants}
    for repeat in range(-1, repeats):  # the first round warms up
        for variant in variants:
            gc.collect()
            start = time.perf_counter()
            runs[variant](input_ids)
            if repeat >= 0:
                seconds[variant].append(time.perf_counter() - start)
    return seconds


def peak_bytes() -> int:
    """The largest resident size of this process since `forget_peak`.

    From the kernel's own status where there is one: ru_maxrss of a child begins at its parent's size.
    """
    high = [int(line.split()[1]) * 1024 for line in _lines("/proc/self/status") if line.startswith("VmHWM")]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return high[0] if high else peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Linux: the peak begins again at the present size."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measure_memory(variant: str, tokens: int, toy: bool) -> int:
    """The peak above the loaded model, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.capture", "--memory-of", variant, str(tokens)]
    run = subprocess.run(
        command + (["--toy"] if toy else []), capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    if run.returncode:
        raise SystemExit(f"{variant} at {tokens} tokens failed:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def memory_of(variant: str, tokens: int, shape: dict) -> int:
    run = runner(variant, make(shape))
    run(ids(8, shape))  # what is set up at a first pass does not count
    gc.collect()
    forget_peak()
    before = peak_bytes()
    kept = run(ids(tokens, shape))
    after = peak_bytes()
    del kept
    return after - before


def table(rows: list[dict]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| tokens | plain sdpa | capture | capture / plain (pair by pair) | eager with output_attentions |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [f"{row['tokens']:,}"]
        cells += [_cell(row["seconds"].get(v), row["bytes"].get(v)) for v in ("plain", "capture")]
        pairs = [b / a for a, b in zip(row["seconds"]["plain"], row["seconds"]["capture"], strict=True)]
        cells.append(f"**{statistics.median(pairs):.2f}** ({min(pairs):.2f} to {max(pairs):.2f})")
        eager = row["seconds"].get("eager")
        cells.append(_cell(eager, row["bytes"].get("eager")) if eager else row["why"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(seconds: list[float] | None, peak: int | None) -> str:
    time_taken = f"{statistics.median(seconds):.3g} s" if seconds else "–"
    return f"{time_taken}, +{peak / 1e6:,.0f} MB" if peak is not None else time_taken


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--toy", action="store_true", help="a tiny model and few tokens")
    options.add_argument("--tokens", type=int, nargs="+", choices=TOKENS, help="some of the lengths only")
    options.add_argument("--threads", type=int, default=1, help="of torch (1)")
    options.add_argument("--memory-of", nargs=2, metavar=("VARIANT", "TOKENS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    shape = TOY if given.toy else SHAPE
    if given.memory_of:
        print(json.dumps(memory_of(given.memory_of[0], int(given.memory_of[1]), shape)))
        return
    print(
        f"GPT-2, {shape['n_layer']} layers × {shape['n_head']} heads, width {shape['n_embd']}, random weights;", end=" "
    )
    print(f"torch {torch.__version__}, {given.threads} thread(s), median of the repeats, peak above the loaded model\n")
    print(f"Checked: capture's weights equal eager's within {check(shape):.1e}.\n", flush=True)
    rows = []
    for tokens in TOY_TOKENS if given.toy else given.tokens or TOKENS:
        wanted, free = eager_bytes(tokens, shape), available_bytes()
        variants = [v for v in VARIANTS if v != "eager" or wanted < 0.7 * free]
        row = {"tokens": tokens, "why": f"skipped: needs about {wanted / 1e9:.1f} GB of {free / 1e9:.1f} GB free"}
        row["seconds"] = measure_time(tokens, variants, shape, 3 if given.toy else REPEATS[tokens])
        memory = variants if not given.toy else ["capture"] if tokens == TOY_TOKENS[-1] else []  # each is a process
        row["bytes"] = {variant: measure_memory(variant, tokens, given.toy) for variant in memory}
        rows.append(row)
        print(f"{tokens:,} tokens measured", file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
