"""GGUF files as bases: written here with the gguf package from tiny models, compared with those models."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from udever import Embedder, storage
from udever.errors import ModelError, OutputError
from udever.model import gguf as module
from udever.model.gguf import GGUFSource, gguf_folder, read_source

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")

WORDS = ["th", "the", "ca", "cat", "▁cat", "▁", "t", "h", "e", "c", "a", "s"]
LAYERS = 2


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UDEVER_CACHE", str(tmp_path / "cache"))


def sentencepiece():
    """Tokens, scores and kinds in the manner of a SentencePiece vocabulary."""
    special = [("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 2)]
    tokens = special + [(f"<0x{byte:02X}>", 6) for byte in range(256)] + [(word, 1) for word in WORDS]
    return [token for token, _ in tokens], [-float(i) for i in range(len(tokens))], [kind for _, kind in tokens]


def byte_level():
    """Tokens and merges in the manner of GPT-2's."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = ["t h", "th e", "c a", "ca t"]
    return [*bytes_to_unicode().values(), *(m.replace(" ", "") for m in merges), "<|endoftext|>"], merges


def head_dim(architecture):
    """What transformers takes for granted in files of these architectures."""
    return {"gemma2": 256, "gemma3": 256, "qwen3": 128}.get(architecture, 16)


def tiny(architecture, num_tokens):
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = {"gemma3": "gemma3_text"}.get(architecture, architecture)
    config = CONFIG_MAPPING[kind](
        vocab_size=num_tokens,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim(architecture),
        max_position_embeddings=128,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        **({"query_pre_attn_scalar": 256, "sliding_window": 32} if "gemma" in architecture else {}),
    )
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
        else:
            torch.nn.init.normal_(parameter, 0, 0.2)
    return model


def file_tensor(architecture, name, tensor):
    """A weight as llama.cpp's converters write it: Gemma's norms with their 1, Llama's rotary halves interleaved."""
    array = tensor.detach().float().numpy()
    if "gemma" in architecture and "norm" in name:
        return array + 1
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = 4 if "q_proj" in name else 2
        return array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
    return array


def write(path, architecture, model, *, quantise=None, changes=None, tensors=True, endianess=None):
    """A GGUF file of `model`, whose 2-d weights are quantised as told; `changes` adds metadata."""
    writer = gguf.GGUFWriter(path, architecture, endianess=endianess or gguf.GGUFEndian.LITTLE)
    config = model.config
    writer.add_name("tiny model")
    writer.add_file_type(0 if quantise is None else 7)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head_dim(architecture))
    writer.add_value_length(head_dim(architecture))
    writer.add_rope_freq_base(1e6 if architecture == "gemma3" else 1e4)
    writer.add_vocab_size(config.vocab_size)
    if architecture == "llama":
        writer.add_rope_dimension_count(16)
    if "gemma" in architecture:
        writer.add_sliding_window(config.sliding_window)
    write_tokenizer(writer, architecture)
    for key, value in (changes or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(key, value)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), LAYERS)
    for name, tensor in model.named_parameters() if tensors else ():
        target = names.get_name("model." + name, try_suffixes=(".weight", ".bias"))
        array = file_tensor(architecture, name, tensor)
        if quantise is None or array.ndim == 1:
            writer.add_tensor(target, array)
        else:
            writer.add_tensor(target, gguf.quants.quantize(array, quantise), raw_dtype=quantise)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tokenizer(writer, architecture):
    if "qwen" in architecture:
        tokens, merges = byte_level()
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(tokens)
        writer.add_token_types([1] * (len(tokens) - 1) + [3])
        writer.add_token_merges(merges)
        writer.add_eos_token_id(len(tokens) - 1)
        return
    tokens, scores, kinds = sentencepiece()
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)


def num_tokens(architecture):
    return len(byte_level()[0]) if "qwen" in architecture else len(sentencepiece()[0])


def hidden(embedder, ids):
    with torch.inference_mode():
        return embedder.embed_tokens([ids])[0]


@pytest.mark.parametrize("architecture", module.READABLE)
def test_a_file_gives_the_model_it_was_written_from(architecture, tmp_path):
    model = tiny(architecture, num_tokens(architecture))
    folder = gguf_folder(write(tmp_path / "tiny.gguf", architecture, model))
    ids = [5, 40, 200, 17, 33, 90, 120, 121]
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    embedder = Embedder.load(folder, dtype="float32")
    assert torch.allclose(hidden(embedder, ids), expected, atol=1e-4)
    source = read_source(folder)
    assert source is not None
    assert (source.file, source.architecture, source.quantisation) == ("tiny.gguf", architecture, "ALL_F32")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_quantised_weights_are_those_of_the_file(tmp_path):
    from safetensors.torch import load_file

    model = tiny("gemma3", num_tokens("gemma3"))
    kind = gguf.GGMLQuantizationType.Q8_0
    folder = gguf_folder(write(tmp_path / "tiny.gguf", "gemma3", model, quantise=kind))
    name = "layers.1.mlp.up_proj.weight"
    array = model.state_dict()[name].numpy()
    expected = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind)).bfloat16()
    assert torch.equal(load_file(folder / "model.safetensors")[name], expected)
    source = str(read_source(folder))
    assert source.startswith("tiny.gguf (Q8_0, SHA-256 ")
    Embedder.load(tmp_path / "tiny.gguf", dtype="float32").save(tmp_path / "saved")
    assert f"from `{source}`" in (tmp_path / "saved" / "README.md").read_text()


def test_pooling_is_the_files(tmp_path):
    model = tiny("qwen3", num_tokens("qwen3"))
    by_number = {
        number: write(tmp_path / f"{number}.gguf", "qwen3", model, changes={"qwen3.pooling_type": number})
        for number in (1, 2, 3)
    }
    assert Embedder.load(by_number[1], dtype="float32").contract.pooling == "mean"
    assert Embedder.load(by_number[3], dtype="float32").contract.pooling == "last"
    with pytest.raises(ModelError, match="pools by cls; expected a decoder pooled by last or mean"):
        gguf_folder(by_number[2])
    broken = write(tmp_path / "broken.gguf", "qwen3", model, changes={"udever.contract": "{}"})
    with pytest.raises(ModelError, match=r"broken\.gguf holds a broken contract"):
        Embedder.load(broken)


def test_tokens_are_the_files(tmp_path):
    folder = gguf_folder(write(tmp_path / "tiny.gguf", "gemma3", tiny("gemma3", num_tokens("gemma3"))))
    tokens, _, _ = sentencepiece()
    embedder = Embedder.load(folder, dtype="float32")
    ids = embedder.tokenize(["the cat"], "query").ids[0]
    assert [tokens[i] for i in ids] == ["<bos>", "the", "▁cat", "<eos>"]


def test_a_file_that_is_replaced_while_it_is_read_is_not_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "tiny.gguf", "qwen3", tiny("qwen3", num_tokens("qwen3")))
    other = write(tmp_path / "other.gguf", "qwen3", tiny("qwen3", num_tokens("qwen3")))
    read = module._read_model

    def after_another(*arguments):
        other.replace(path)
        return read(*arguments)

    monkeypatch.setattr(module, "_read_model", after_another)
    before = set(storage.cache_folder().rglob("gguf.json"))
    with pytest.raises(ModelError, match="was changed while it was read"):
        gguf_folder(path)
    assert set(storage.cache_folder().rglob("gguf.json")) == before


def test_a_file_is_converted_once_wherever_it_lies(tmp_path, monkeypatch):
    path = write(tmp_path / "tiny.gguf", "qwen3", tiny("qwen3", num_tokens("qwen3")))
    folder = gguf_folder(path)
    monkeypatch.setattr(module, "_convert", lambda *_: pytest.fail("converted again"))
    assert gguf_folder(path.rename(tmp_path / "moved.gguf")) == folder


def refused(path: Path, what: str, kind: type[ValueError] = ModelError):
    with pytest.raises(kind, match=what) as caught:
        gguf_folder(path)
    assert "\n" not in str(caught.value)
    assert not list((path.parent / "cache").glob("gguf/*/*"))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"split.count": 3}, "one part of 3"),
        ({"gemma3.attention.key_length": 128}, "does not store the model's attention scale"),
        ({"gemma3.rope.scaling.type": "linear"}, "rope scaling 'linear'"),
    ],
)
def test_settings_that_would_be_lost_are_refused(tmp_path, changes, what):
    refused(write(tmp_path / "a.gguf", "gemma3", tiny("gemma3", num_tokens("gemma3")), changes=changes), what)


def test_a_tensor_that_the_model_has_no_place_for_is_refused(tmp_path):
    model = tiny("gemma3", num_tokens("gemma3"))
    model.layers[0].self_attn.register_parameter("sinks", torch.nn.Parameter(torch.zeros(4)))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, LAYERS)
    names.mapping["model.layers.0.self_attn.sinks"] = (None, "blk.0.attn_sinks")
    path = tmp_path / "a.gguf"
    original, gguf.get_tensor_name_map = gguf.get_tensor_name_map, lambda *_: names
    try:
        write(path, "gemma3", model)
    finally:
        gguf.get_tensor_name_map = original
    refused(path, "weights and transformers' gemma3 takes")


@pytest.mark.parametrize("architecture", ["bert", "gemma-embedding", "clip"])  # embedding-only, the same, vision
def test_other_architectures_name_the_readable_ones(tmp_path, architecture):
    model = tiny("gemma3", num_tokens("gemma3"))
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tensor("token_embd.weight", model.embed_tokens.weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(path, f"architecture '{architecture}'; expected a decoder: gemma2, gemma3")


def test_vocabularies_without_weights_are_refused(tmp_path):
    model = tiny("gemma3", num_tokens("gemma3"))
    refused(write(tmp_path / "a.gguf", "gemma3", model, tensors=False), "vocabulary without weights")


def test_the_other_byte_order_is_refused(tmp_path):
    model = tiny("gemma3", num_tokens("gemma3"))
    refused(write(tmp_path / "a.gguf", "gemma3", model, endianess=gguf.GGUFEndian.BIG), "other byte order")


@pytest.mark.parametrize("kept", [0, 3, 8, 2_000, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, kept):
    path = write(tmp_path / "a.gguf", "gemma3", tiny("gemma3", num_tokens("gemma3")))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refused(path, "cut short or damaged|no GGUF file")


def test_a_byte_level_tokenizer_of_unknown_splitting_is_refused(tmp_path, monkeypatch):
    def unknown(self, pre):
        self.add_string("tokenizer.ggml.pre", "never-heard-of")

    monkeypatch.setattr(gguf.GGUFWriter, "add_tokenizer_pre", unknown)
    refused(write(tmp_path / "a.gguf", "qwen3", tiny("qwen3", num_tokens("qwen3"))), "never-heard-of")


def test_a_full_disk_is_told_before_the_work(tmp_path, monkeypatch):
    path = write(tmp_path / "a.gguf", "gemma3", tiny("gemma3", num_tokens("gemma3")))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    monkeypatch.setattr(module, "_read_model", lambda *_: pytest.fail("began to read"))
    refused(path, "GB free", OutputError)


def test_numbers_of_another_type_do_not_pass(tmp_path):
    assert module._dtype({"F32"}) == "float32"
    assert module._dtype({"F16"}) == "float16"
    assert module._dtype({"Q4_K", "F16"}) == "bfloat16"
    assert module._dtype({"F16", "BF16"}) == "bfloat16"


def test_a_source_reads_as_a_card_names_it():
    source = GGUFSource("a.gguf", "qwen3", "A", "Q4_K_M", "ab" * 32, "mit")
    assert str(source) == f"a.gguf (Q4_K_M, SHA-256 {'ab' * 32})"
    assert np.isfinite(len(str(source)))
