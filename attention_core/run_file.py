"""A Run as one .npz file, opened again without the model: arrays that NumPy reads, and run.json beside them.

    key_L, value_L, position_L    the rows of layer L: (key-value heads, rows, head_dim) and the token of each row
    cross_key_L, cross_value_L …  the same of the cross-attention
    query_I                       (steps, heads, head_dim) of attention call I: the query of the token read last
    weights_I_K, bias_I_K …       what else call I of step K needs; attention_I_K (heads, keys) where asked for
    run.json                      tokens, candidates with their probabilities, seconds, sampling, ranges of rows

Every number of vocabulary size but the candidates' is left out. Nothing read is trusted: every array and every fact is
checked before it is used.
"""

import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from .errors import HeadlightError
from .rows import Kept, Rows
from .run import DecodeStep, Facts, Names, Reading, Run
from .sampling import Candidate, Sampling
from .saving import Reader
from .stored import DAMAGED

MARK, VERSION = "headlight run", 1
DESCRIPTION = "run.json"
BYTES_UP_TO = 8 << 30  # of everything in a file, unpacked
NOT_OURS = "This is not a run that Headlight saved (an .npz file with run.json in it). Choose one that it saved."
_DTYPES = ("float16", "float32", "float64", "bool")
_EXTRA = ("bias", "mask", "sink")
_FACTS = dict.fromkeys(("model", "revision", "text", "cache", "read_again"), "text") | {"layers": "texts"}
_FACTS |= {"prompt": "counts", "source": "counts", "asked": "count?", "context": "count?", "branched_at": "count?"}
_FACTS |= {"seconds_encoder": "number"}
_SAMPLING = {"do_sample": "switch", "temperature": "number", "top_k": "count", "top_p": "number", "seed": "count"}
_SAMPLING |= {"stop": "texts"}
_STEP = dict.fromkeys(("token", "read", "cache_bytes", "state_bytes"), "count") | {"input_tokens": "counts"}
_STEP |= {"seconds": "number", "seconds_uncached": "number?", "max_logit_difference": "number?", "ends": "text"}
_STEP |= {"untouched": "switch", "same_token": "switch?", "forced": "switch"}
_CALL = {"kind": "text", "layer": "count", "module": "text", "scaling": "number", "softcap": "number?"}
_CALL |= {"has_values": "switch", "sink_scales_output": "switch"}


def run_json(run: Run) -> str:
    """Everything about a run but its arrays."""
    return _described(run, False)[0]


def run_bytes(run: Run, attention: bool = False) -> bytes:
    """The contents of an .npz file. attention: every step's weights too, (heads, keys) a call."""
    described, arrays = _described(run, attention)
    file = io.BytesIO()
    np.savez(file, **arrays)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DESCRIPTION, described)
    return file.getvalue()


def _described(run: Run, attention: bool) -> tuple[str, dict[str, Any]]:
    writer = _Writer()
    rows, places = [], {id(rows): n for n, rows in enumerate(run.rows)}
    owners = _owners(run)
    for held in run.rows:
        name = owners[id(held)]
        key, value = held.view(held.first, held.stop)
        writer.arrays[f"{name.format('position')}"] = np.arange(held.first, held.stop)
        names = {part: writer.add(name.format(part), tensor) for part, tensor in (("key", key), ("value", value))}
        rows.append({"first": held.first} | names)
    for i, reading in enumerate(run.steps[0].readings):
        if reading.query is not None:
            queries = [step.readings[i].query for step in run.steps]
            writer.add(f"query_{i}", torch.stack([q[:, 0] for q in queries if q is not None]))
    calls: list[dict[str, Any]] = []
    steps = [_step_facts(step, k, places, calls, writer) for k, step in enumerate(run.steps)]
    if attention:
        for k, step in enumerate(run.steps):
            for i, layer in enumerate(step.layers):
                writer.add(f"attention_{i}_{k}", layer.weights(*3 * [slice(None)])[:, 0])
    facts = {name: getattr(run.facts, name) for name in _FACTS}
    used = {*run.facts.prompt, *run.facts.source}
    used |= {token for step in run.steps for token in (*step.input_tokens, step.token)}
    used |= {candidate.token for step in run.steps for candidate in step.candidates}
    ordered = sorted(used)
    whole = {"mark": MARK, "version": VERSION, "facts": facts, "sampling": asdict(run.facts.sampling)}
    whole |= {"names": [[token, name] for token, name in zip(ordered, run.facts.names(ordered), strict=True)]}
    whole |= {"steps": steps, "calls": calls, "rows": rows, "dtypes": writer.dtypes}
    whole |= {"config": None if run.facts.config is None else json.loads(run.facts.config.to_json_string(False))}
    return json.dumps(whole, ensure_ascii=True), writer.arrays


def _owners(run: Run) -> dict[int, str]:
    """By id of rows, the names of its arrays with a hole for which: "{}_3", "cross_{}_0", "{}_3_1" for a second."""
    owners: dict[int, str] = {}
    for prefix, side in (("", "kept"), ("cross_", "cross_kept")):
        seen: dict[int, int] = {}
        for step in run.steps:
            for layer, kept in enumerate(getattr(step, side)):
                if kept is not None and id(kept.rows) not in owners:
                    again = f"_{seen[layer]}" if layer in seen else ""
                    owners[id(kept.rows)] = f"{prefix}{{}}_{layer}{again}"
                    seen[layer] = seen.get(layer, 0) + 1
    return owners


class _Writer:
    """Arrays by name; one that several hold gets one name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.dtypes: dict[str, str] = {}  # of those that NumPy does not know
        self._same: dict[tuple[Any, ...], str] = {}
        self._added: list[Tensor] = []  # kept, so that no address is used twice

    def add(self, name: str, tensor: Tensor) -> str:
        same = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if same not in self._same:
            self._same[same] = name
            self._added.append(tensor)
            if tensor.dtype == torch.bfloat16:
                self.dtypes[name] = "bfloat16"
            plain = tensor.detach().cpu()
            self.arrays[name] = (plain.float() if tensor.dtype == torch.bfloat16 else plain).numpy()
        return self._same[same]


def _step_facts(
    step: DecodeStep, k: int, places: dict[int, int], calls: list[dict[str, Any]], writer: _Writer
) -> dict[str, Any]:
    def ranged(kept: Kept | None) -> list[int] | None:
        return None if kept is None else [places[id(kept.rows)], kept.start, kept.stop]

    readings = []
    for i, reading in enumerate(step.readings):
        call = {name: getattr(reading, name) for name in _CALL}
        if call not in calls:
            calls.append(call)
        positions = [reading.positions.start, reading.positions.stop]
        facts: dict[str, Any] = {"call": calls.index(call), "kept": ranged(reading.kept), "positions": positions}
        facts["query"] = None if reading.query is None else f"query_{i}"
        for name in _EXTRA:
            tensor = getattr(reading, name)
            facts[name] = None if tensor is None else writer.add(f"{name}_{i}_{k}", tensor)
        facts["weights"] = None if reading.recorded is None else writer.add(f"weights_{i}_{k}", reading.recorded)
        readings.append(facts)
    plain = {name: getattr(step, name) for name in _STEP} | {"text": step.text}
    plain["candidates"] = [[c.token, c.before, c.after] for c in step.candidates]
    plain["kept"], plain["cross_kept"] = [ranged(p) for p in step.kept], [ranged(p) for p in step.cross_kept]
    return plain | {"readings": readings}


# ── the other way round ──────────────────────────────────────────────────────────────────────────────────────────────


def open_run(data: bytes) -> Run:
    """The Run that run_bytes() wrote, every row and query equal to the bit; `logits` is None in its steps. Raises
    HeadlightError: not ours, damaged, another version."""
    arrays, whole = _unpacked(data)
    dtypes: Any = whole.get("dtypes")
    _fits(isinstance(dtypes, dict), "dtypes")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.name in _DTYPES}
    for name in dtypes:
        _fits(name in tensors, "dtypes")
        tensors[name] = tensors[name].to(torch.bfloat16)
    reader = Reader(tensors, whole | {"expanded": {}})
    names = _each(whole, "names")
    _fits(all(isinstance(n, list) and len(n) == 2 and _count(n[0]) and isinstance(n[1], str) for n in names), "names")
    plain = reader.record("facts", _FACTS)
    try:
        sampling = Sampling(**reader.record("sampling", _SAMPLING))
    except HeadlightError as error:
        raise HeadlightError(f"The file holds no run that fits together: {error}") from error
    plain |= {name: tuple(plain[name]) for name in ("prompt", "source", "layers")}
    known = Names(None, {token: name for token, name in names})
    facts = Facts(**plain, sampling=sampling, names=known, config=_config(whole.get("config")))
    rows = [_rows(part, reader) for part in _each(whole, "rows")]
    calls = [_record(part, _CALL) for part in _each(whole, "calls")]
    _fits(all(call["kind"] in ("decoder", "cross") for call in calls), "calls")
    steps = _each(whole, "steps")
    _fits(len(steps) > 0, "steps")
    held = _Held(rows, calls, reader, len(steps))
    return Run(tuple(_step(part, k, facts, held) for k, part in enumerate(steps)))


def _config(sizes: Any) -> PreTrainedConfig | None:
    """The model's config; None where transformers does not know its kind, or cannot make it from what stands there."""
    if not isinstance(sizes, dict) or not isinstance(sizes.get("model_type"), str):
        return None
    try:
        return AutoConfig.for_model(**sizes)
    except (AttributeError, KeyError, OSError, StrictDataclassError, TypeError, ValueError):
        return None


@dataclass(frozen=True, eq=False)
class _Held:
    """What the steps of a file refer to."""

    rows: list[Rows]
    calls: list[dict[str, Any]]
    reader: Reader
    steps: int


def _unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if DESCRIPTION not in archive.namelist():
                raise HeadlightError(NOT_OURS)
            if sum(part.file_size for part in archive.infolist()) > BYTES_UP_TO:
                raise HeadlightError("The file unpacks to more than 8 GiB: choose another one.")
            whole = json.loads(archive.read(DESCRIPTION))
        if not isinstance(whole, dict) or whole.get("mark") != MARK:
            raise HeadlightError(NOT_OURS)
        if whole.get("version") != VERSION:
            raise HeadlightError("The file was written by another version of Headlight: save the run again.")
        with np.load(io.BytesIO(data), allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files if name != DESCRIPTION}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError, RecursionError) as error:
        raise HeadlightError(NOT_OURS if data[:2] != b"PK" else DAMAGED) from error
    _fits(all(isinstance(array, np.ndarray) for array in arrays.values()), "the arrays")
    return arrays, whole


def _rows(part: Any, reader: Reader) -> Rows:
    _fits(isinstance(part, dict) and _count(part.get("first")), "rows")
    key, value = reader.tensor(part.get("key")), reader.tensor(part.get("value"))
    _fits(key.ndim == value.ndim == 3 and key.shape[:2] == value.shape[:2] and key.numel() > 0, "rows")
    return Rows(key, value, part["first"], 0)


def _step(part: Any, k: int, facts: Facts, held: _Held) -> DecodeStep:
    plain, where = _record(part, _STEP), f"step {k}"
    shares = part.get("candidates")
    _fits(isinstance(shares, list) and all(isinstance(s, list) and len(s) == 3 for s in shares), where)
    _fits(all(_count(s[0]) and all(type(p) in (int, float) for p in s[1:]) for s in shares), where)
    plain["input_tokens"] = tuple(plain["input_tokens"])
    _fits(len(plain["input_tokens"]) > 0, where)
    return DecodeStep(
        **plain,
        facts=facts,
        number=k,
        logits=None,
        likely=tuple(Candidate(*share) for share in shares),
        kept=tuple(_kept(p, held.rows, where) for p in _each(part, "kept")),
        cross_kept=tuple(_kept(p, held.rows, where) for p in _each(part, "cross_kept")),
        readings=tuple(_reading(p, k, held) for p in _each(part, "readings")),
    )


def _kept(part: Any, rows: list[Rows], where: str) -> Kept | None:
    if part is None:
        return None
    _fits(isinstance(part, list) and len(part) == 3 and all(map(_count, part)) and part[0] < len(rows), where)
    whole = rows[part[0]]
    _fits(whole.first <= part[1] < part[2] <= whole.stop, where)
    return Kept(whole, part[1], part[2])


def _reading(part: Any, k: int, held: _Held) -> Reading:
    where, reader, calls = f"the attention of step {k}", held.reader, held.calls
    _fits(isinstance(part, dict) and _count(part.get("call")) and part["call"] < len(calls), where)
    ends = part.get("positions")
    _fits(isinstance(ends, list) and len(ends) == 2 and all(map(_count, ends)) and ends[0] < ends[1], where)
    keys, kept = ends[1] - ends[0], _kept(part.get("kept"), held.rows, where)
    given = {name: None if part.get(name) is None else reader.tensor(part[name]) for name in _EXTRA}
    recorded = None if part.get("weights") is None else reader.tensor(part["weights"])
    query = None
    if part.get("query") is not None:
        queries = reader.tensor(part["query"])  # (steps, heads, head_dim)
        _fits(queries.ndim == 3 and queries.shape[0] == held.steps and queries.is_floating_point(), where)
        query = queries[k][:, None]
    if recorded is not None:
        _fits(recorded.ndim == 3 and recorded.shape[1:] == (1, keys) and recorded.is_floating_point(), where)
        heads = recorded.shape[0]
    else:
        _fits(query is not None and kept is not None, where)
        assert query is not None and kept is not None
        key, heads = kept.tensors[0], query.shape[0]
        _fits(kept.positions == range(*ends) and query.shape[2] == key.shape[2] and heads % key.shape[0] == 0, where)
    for name in ("bias", "mask"):
        added = given[name]
        _fits(added is None or (added.ndim == 3 and added.shape[0] in (1, heads)), where)
        _fits(added is None or added.shape[1:] == (1, keys), where)
    sink = given["sink"]
    _fits(sink is None or sink.shape in ((heads,), (heads, 1)), where)
    call: dict[str, Any] = calls[part["call"]] | given
    return Reading(positions=range(*ends), query=query, kept=kept, recorded=recorded, **call)


def _record(part: Any, kinds: dict[str, str]) -> dict[str, Any]:
    """The plain facts of a part, each of its kind."""
    return Reader({}, {"expanded": {}, "part": part}).record("part", kinds)


def _each(whole: dict[str, Any], name: str) -> list[Any]:
    _fits(isinstance(whole.get(name), list), name)
    return whole[name]


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _fits(condition: bool, what: str) -> None:
    if not condition:
        raise HeadlightError(f"The file holds no run that fits together ({what}): save the run again.")
