"""A transformers folder: what is good loads exactly, what is bad gets its sentence, what does not fit is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from attention_core import HeadlightError, LanguageModel, capture, load_model, loading, memory
from attention_core.transformer import SmallConfig, SmallForCausalLM
from tests.architectures import ARCHITECTURES, IDS
from tests.tiny import letters, tiny

pytestmark = pytest.mark.usefixtures("no_network")


def save(folder: Path, model: tf.PreTrainedModel) -> Path:
    model.save_pretrained(folder)
    letters().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "mine", tiny())


def change_json(file: Path, **changes) -> None:
    """Some entries changed, those with None taken out."""
    entries = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in entries.items() if value is not None}))


def change_weights(folder: Path, *without: str, **tensors: torch.Tensor) -> None:
    weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if n not in without}
    save_file(weights | tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder: Path, sentence: str, **options) -> str:
    """The sentence of a folder that is not loaded; it is short, names the folder and says what to do."""
    with pytest.raises(HeadlightError, match=sentence) as error:
        loading.load_folder(folder, **options)
    said = str(error.value)
    assert len(said) < 700 and folder.name in said and "Traceback" not in said and "\n" not in said
    return said


def real_bytes(model: torch.nn.Module) -> int:
    """Bytes of all storages, those inside a quantised tensor too, each once."""
    held = {}
    for tensor in (*model.parameters(), *model.buffers()):
        names = tensor.__tensor_flatten__()[0] if hasattr(tensor, "__tensor_flatten__") else []
        inner = [getattr(tensor, name) for name in names] or [tensor]
        for part in inner:
            held[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
    return sum(held.values())


# ── what is good ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_loaded_as_the_class_it_names(folder):
    loaded = loading.load_folder(folder)
    assert type(loaded.model) is tf.LlamaForCausalLM and loaded.revision == ""
    assert loaded.tokenizer("ab")["input_ids"] == letters()("ab")["input_ids"]
    assert loaded.model.dtype == torch.float32 and not loaded.model.training
    assert all(torch.equal(t, tiny().state_dict()[name]) for name, t in loaded.model.state_dict().items())


def test_an_encoder_gets_no_random_head(tmp_path):
    save(tmp_path, ARCHITECTURES["BERT"].model())
    assert type(loading.load_folder(tmp_path).model) is tf.BertModel


def test_a_half_precision_folder_is_read_in_float32(tmp_path):
    save(tmp_path, tiny().to(torch.bfloat16))
    assert loading.load_folder(tmp_path).model.dtype == torch.float32


def test_a_model_in_several_files(tmp_path):
    tiny().save_pretrained(tmp_path, max_shard_size="60KB")
    letters().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    model = loading.load_folder(tmp_path).model
    assert all(torch.equal(t, tiny().state_dict()[name]) for name, t in model.state_dict().items())
    shards[1].unlink()
    refused(tmp_path, rf"lacks 1 of its {len(shards)} files \({shards[1].name}\): copy them too")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": 5}')
    refused(tmp_path, "lists no weights: copy or save the model again")


def test_tied_weights_are_not_missing(tmp_path):
    save(tmp_path, ARCHITECTURES["Gemma 3: local and global layers"].model())
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert loading.load_folder(tmp_path).model.lm_head.weight.shape == (97, 36)


# ── what is bad: each its own sentence ──────────────────────────────────────────────────────────────────────────────


def test_no_config(folder):
    (folder / "config.json").unlink()
    refused(folder, "mine has no config.json, .* give the folder that model.save_pretrained")


@pytest.mark.parametrize("text", ['{"a":', "\x00\xff", "[" * 9999])
def test_a_broken_config(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "The config.json of mine is broken .* copy or save the model again")


def test_a_config_that_is_no_list_of_settings(folder):
    (folder / "config.json").write_text("[1, 2]")
    refused(folder, "The config.json of mine holds no settings")


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"hidden_size": "x"}, "The config.json of mine .*hidden_size.* Correct it, or save"),
        ({"hidden_size": 37}, "The config.json of mine .*37.* Correct it, or save"),
        ({"num_attention_heads": 0}, "config.json of mine .*Correct it, or save"),
        ({"model_type": "nosuch"}, r"transformers 5[\d.]+ does not know the model type 'nosuch'. Choose"),
        ({"model_type": None}, "does not know it: no model_type. Choose a model"),
        ({"architectures": None}, 'names no architecture: add a line such as "architectures": '),
        ({"architectures": []}, "names no architecture"),
        ({"architectures": ["NoSuchModel"]}, "transformers [^ ]+ does not know NoSuchModel. Choose"),
        ({"architectures": ["pipeline"]}, "does not know pipeline"),
        ({"architectures": ["Mine"], "auto_map": {"AutoModel": "m.M"}}, "code of its own, which Headlight never runs"),
        ({"model_type": "nosuch", "auto_map": {"AutoConfig": "m.C"}}, "code of its own, which Headlight never runs"),
    ],
)
def test_a_config_that_cannot_be_used(folder, changes, sentence):
    change_json(folder / "config.json", **changes)
    (folder / "m.py").write_text("raise SystemExit('this code ran')")
    refused(folder, sentence)


def test_an_adapter_names_its_base(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "meta/llama"}')
    refused(folder, r"mine is an adapter: it changes meta/llama .*merge_and_unload\(\).save_pretrained\(folder\)")


def test_pickled_weights_are_never_read(folder, monkeypatch):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("a pickle was opened"))
    said = refused(folder, r"only pickled weights \(pytorch_model.bin\)\. Such a file can run code .* never read")
    assert "transformers.LlamaForCausalLM.from_pretrained(folder).save_pretrained(folder) writes safetensors" in said


def test_the_advice_for_pickled_weights_works(folder):
    """What the sentence tells the user to do gives a folder that loads."""
    torch.save(tiny().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    tf.LlamaForCausalLM.from_pretrained(folder).save_pretrained(folder)
    model = loading.load_folder(folder).model
    assert all(torch.equal(t, tiny().state_dict()[name]) for name, t in model.state_dict().items())


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    refused(folder, "mine has other.safetensors but no model.safetensors: give the folder that")
    (folder / "other.safetensors").rename(folder / "it.gguf")
    refused(folder, "no model.safetensors but it.gguf: give the path of that file")
    (folder / "it.gguf").unlink()
    refused(folder, "mine has no weights: model.safetensors is missing. Copy it there")


@pytest.mark.parametrize("damage", ["short", "header", "empty", "text"])
def test_damaged_weights(folder, damage):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(
        {"short": whole[:-1000], "header": whole[:100], "empty": b"", "text": b"hello " * 5000}[damage],
    )
    refused(folder, r"model.safetensors of mine is damaged or was cut short \(.*\): copy or download it again")


def test_missing_weights_are_not_invented(folder):
    change_weights(folder, "model.layers.1.self_attn.q_proj.weight")
    refused(folder, r"mine lacks weights \(model\.layers\.1\.self_attn\.q_proj\.weight …\)")


def test_weights_of_another_shape(folder):
    change_json(folder / "config.json", intermediate_size=60)
    refused(folder, r"do not fit its config: model\.layers\.0\.mlp.* \(36, 56\), and .* \(36, 60\)\. Put the config")


@pytest.mark.parametrize("kept", [[], ["tokenizer_config.json"]])
def test_no_tokenizer(folder, kept):
    for file in folder.glob("tokenizer*"):
        if file.name not in kept:
            file.unlink()
    refused(folder, r"mine.*tokenizer\.save_pretrained\(folder\)")
    assert LanguageModel(tf.LlamaForCausalLM.from_pretrained(folder)).capture([5, 6]).tokens is None


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ['{"version": broken', '{"version": "1.0"}', "[]", ""])
def test_a_broken_tokenizer(folder, file, text):
    (folder / file).write_text(text)
    if (file, text) != ("tokenizer_config.json", '{"version": "1.0"}'):  # says nothing, and is not needed
        refused(folder, r"The tokenizer of mine cannot be read: .* Save it again with tokenizer.save_pretrained")


def test_a_blank_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    refused(folder, "The tokenizer of mine cannot be read: it has no vocabulary")


def test_a_tokenizer_of_its_own_code_is_not_run(folder):
    (folder / "tokenizer.json").unlink()
    change = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["m.Mine", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(change))
    (folder / "m.py").write_text("raise SystemExit('this code ran')")
    refused(folder, "tokenizer of mine is Python code of its own, which Headlight never runs")


SMALL = {"hidden_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
OTHERS = {
    "pictures": lambda: tf.ViTModel(tf.ViTConfig(**SMALL, image_size=8, patch_size=4)),
    "sound and text": lambda: tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(
            vocab_size=97, d_model=20, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1,
        )
    ),
    "pictures and text": lambda: tf.CLIPModel(
        tf.CLIPConfig(
            text_config=SMALL | {"vocab_size": 97}, vision_config=SMALL | {"image_size": 8, "patch_size": 4}
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_a_model_that_reads_something_else(tmp_path, what):
    save(tmp_path / "mine", OTHERS[what]())
    (tmp_path / "mine" / "model.safetensors").write_bytes(b"")  # told before a weight is read
    refused(tmp_path / "mine", rf"mine \(\w+\) reads {what}. Headlight shows models that read text alone: choose one")


def test_a_state_space_model(tmp_path):
    config = tf.MambaConfig(**IDS, hidden_size=20, num_hidden_layers=1, state_size=4)
    save(tmp_path / "mine", tf.MambaForCausalLM(config))
    refused(tmp_path / "mine", r"mine \(MambaForCausalLM\) is a state-space model: it has no attention heads")


# ── numbers in fewer bytes, and whether they fit ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_estimate_is_what_is_loaded(tmp_path, monkeypatch, name, dtype):
    estimate = memory.estimate_bytes
    monkeypatch.setattr(  # a tiny model is mostly embeddings, and would be told that int8 is of no use
        loading, "estimate_bytes", lambda config, dtype: 10**9 if dtype == "bfloat16" else estimate(config, dtype)
    )
    save(tmp_path, ARCHITECTURES[name].model())
    model = loading.load_folder(tmp_path, dtype).model
    assert estimate(tf.AutoConfig.from_pretrained(tmp_path), dtype) == pytest.approx(real_bytes(model), rel=0.02)


def test_the_estimate_of_our_own_model():
    config = SmallConfig(architectures=["SmallForCausalLM"], num_hidden_layers=3)
    assert memory.estimate_bytes(config, "float32") == real_bytes(SmallForCausalLM(config))


def wide() -> tf.PreTrainedModel:
    """Mostly linear layers, as a real model is: (layers, hidden, heads, head_dim) = (3, 160, 5, 32)."""
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        **IDS, hidden_size=160, intermediate_size=224, num_hidden_layers=3, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=320, initializer_range=0.1, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    return tf.LlamaForCausalLM(config).eval()


def test_int8_takes_one_byte_and_is_exact_with_its_own_weights(tmp_path):
    """Each weight is within half a step of the original; the rest is transformers' eager attention in float32."""
    model = wide()
    save(tmp_path, model)
    lm = load_model(str(tmp_path), dtype="int8")
    kept = {name: m for name, m in lm.model.named_modules() if isinstance(m, torch.nn.Linear)}
    linear = sum(m.weight.numel() for m in kept.values())
    assert real_bytes(lm.model) < real_bytes(model) - 2.9 * linear
    with torch.no_grad():
        for name, module in kept.items():
            rounded, original = module.weight.dequantize(), model.get_submodule(name).weight
            step = original.abs().amax(dim=1, keepdim=True) / 127
            assert (rounded - original).abs().max() > 0 and bool(((rounded - original).abs() <= 0.51 * step).all())
            original.copy_(rounded)
    model.set_attn_implementation("eager")
    inputs = lm.encode("a small text").inputs
    with torch.no_grad():
        own = model(**inputs, output_attentions=True)
    cap = lm.capture("a small text", all_logits=True)
    assert lm.check.weights < 1e-5 and cap.layers[0].query.dtype == torch.float32
    for i, weights in enumerate(own.attentions):
        for h in range(5):
            torch.testing.assert_close(cap.attention(i, h), weights[0, h], atol=1e-5, rtol=0)
    torch.testing.assert_close(cap.output.logits, own.logits, atol=1e-4, rtol=1e-4)


def test_int8_is_refused_where_it_would_not_help(tmp_path):
    save(tmp_path, ARCHITECTURES["GPT-2: learned positions"].model())
    refused(tmp_path, "would not get smaller in int8: .* Choose bfloat16", dtype="int8")
    save(tmp_path, wide())
    change_json(tmp_path / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    refused(tmp_path, "is stored quantised already: load it as float32 or bfloat16", dtype="int8")


def test_what_does_not_fit_is_refused_before_it_is_read(folder, monkeypatch):
    config = tf.LlamaConfig(num_hidden_layers=80, hidden_size=8192, num_attention_heads=64)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)  # 43.6 billion weights
    monkeypatch.setattr(memory, "free_bytes", lambda device: 16 * 10**9)
    needed = 4 * 43_643_355_136 * memory.ROOM / 1e9
    said = refused(folder, "GB are free in this machine's memory: choose the dtype bfloat16 .*int8.* smaller model")
    asked, free = (float(number) for number in re.findall(r"([\d.]+) GB", said))
    assert (asked, free) == (pytest.approx(needed, abs=0.1), 16.0)
    assert float(re.findall(r"([\d.]+) GB", refused(folder, "int8", dtype="bfloat16"))[0]) == pytest.approx(
        needed / 2, abs=0.1
    )
    refused(folder, "in int8, .* choose a smaller model, or a machine with more memory", dtype="int8")


def test_what_is_free_respects_every_limit(tmp_path, monkeypatch):
    machine = memory.psutil.virtual_memory().available
    own = tmp_path / "cgroup"
    own.write_text("12:cpu:/x\n0::/system.slice/headlight.service\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUP", own)
    assert memory.free_bytes("cpu") == pytest.approx(machine, rel=0.2)

    def limit(folder: Path, most: str, used: int, cached: int, v1: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(f"{most}\n")
        (folder / ("memory.usage_in_bytes" if v1 else "memory.current")).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{'total_' if v1 else ''}inactive_file {cached}\n")

    limit(tmp_path, "max", 900, 5)
    assert memory.free_bytes("cpu") > 10**6
    limit(tmp_path / "system.slice", "70000", 30000, 1000)
    assert memory.free_bytes("cpu") == 41000
    limit(tmp_path / "system.slice" / "headlight.service", "9000", 8500, 300)
    assert memory.free_bytes("cpu") == 800
    limit(tmp_path / "memory", "7000", 6950, 30, v1=True)
    assert memory.free_bytes("cpu") == 80
    limit(tmp_path / "memory", "7000", 7500, 30, v1=True)
    assert memory.free_bytes("cpu") == 0


# ── several devices ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_gpu_is_taken_where_there_is_one(monkeypatch):
    for count, place in ((0, "cpu"), (1, "cuda"), (3, "auto")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert loading.placed(None) == place and loading.placed("cpu") == "cpu" and loading.placed("auto") == "auto"
    assert loading.placed("cuda:2") == "cuda:2"
    with pytest.raises(HeadlightError, match="no GPU “cuda:3”"):
        loading.placed("cuda:3")


def test_a_device_map_of_one_device(folder):
    lm = load_model(str(folder), device="auto")
    assert torch.equal(lm.capture("abc").attention(1, 2), load_model(str(folder)).capture("abc").attention(1, 2))


def test_a_model_spread_over_devices_is_captured_exactly(folder, tmp_path):
    """Some layers wait on the disk and are brought in by accelerate's hooks, as with device_map="auto"."""
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu", "lm_head": "cpu"}
    places |= {"model.layers.1": "disk", "model.layers.2": "disk", "model.norm": "disk"}
    spread = tf.LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map=places, offload_folder=tmp_path / "disk"
    )
    assert any(parameter.device.type == "meta" for parameter in spread.parameters())
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    whole = capture(tiny(), input_ids=ids)
    for model in (spread, LanguageModel(spread).model):
        cap = capture(model, input_ids=ids)
        assert len(cap.layers) == 3 and cap.check.weights < 1e-5
        for i in range(3):
            assert torch.equal(cap.layers[i].query, whole.layers[i].query)
            for h in range(cap.layers[i].heads):
                assert torch.equal(cap.attention(i, h), whole.attention(i, h))
        assert torch.equal(cap.output.logits, whole.output.logits)
