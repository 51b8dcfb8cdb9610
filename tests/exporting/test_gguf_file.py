"""GGUF files: what is written comes back through transformers' reader, and out of llama.cpp where it is installed."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from udever import Embedder
from udever.errors import ContractError, ModelError
from udever.exporting import export_gguf, gguf_run
from udever.exporting.gguf_vocabulary import vocabulary_of
from udever.model.adapters import apply_tuning

gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")

TEXTS = [
    "hello world",
    "def add(a, b):\n    return a + b",
    "what's the  sum of 1234 numbers?",
    "把两个数相加。",
    "naïve Zoë",
]
FAMILIES = ["bloom", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"]
READ_BACK = {"llama": {}, "qwen2": {}, "gemma3_text": {"head_dim": 256}}
"""Families that transformers reads too, with what it takes for granted in their files."""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UDEVER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def without_llama_cpp(monkeypatch):
    monkeypatch.setattr(gguf_run, "is_installed", lambda: False)


@pytest.fixture
def load(make, tmp_path):
    """(family, tokenizer, contract changes) -> an embedder of its own in float32."""

    def build(family, *, tokenizer=None, changes=None, **contract):
        changes = {**({"query_pre_attn_scalar": 8} if family == "gemma3_text" else {}), **(changes or {})}
        if family == "gemma3_text":
            changes["query_pre_attn_scalar"] = changes.get("head_dim", 8)
        if family == "mistral":
            changes["sliding_window"] = None
        folder = make.decoder(family, tmp_path / family, tokenizer=tokenizer, **changes)
        return Embedder.load(folder, dtype="float32", device="cpu", **{"max_length": 64, **contract})

    return build


def sentencepiece(make):
    """A tokenizer in the manner of Gemma's: pieces, spaces as a mark, bytes for what has no piece."""
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("a", "d"), ("ad", "d"), ("h", "e"), ("l", "l"), ("▁", "▁")]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokens = ["<unk>", "<s>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += ["".join(pair) for pair in merges]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(tokens[:4])
    tokenizer.add_tokens(["▁▁▁▁"])
    return make.wrap_tokenizer(tokenizer)


def cosines(a, b):
    return (a * b).sum(1)


@pytest.mark.usefixtures("without_llama_cpp")
@pytest.mark.parametrize(("family", "pooling"), [("llama", "mean"), ("qwen2", "last"), ("gemma3_text", "last")])
def test_what_is_written_is_read_back(load, family, pooling, tmp_path):
    embedder = load(family, changes=READ_BACK[family], pooling=pooling, instruction="Find: {instruction}")
    written = export_gguf(embedder, tmp_path / "model.gguf")
    assert written.cosine is None
    back = Embedder.load(tmp_path / "model.gguf", dtype="float32")
    assert cosines(back.encode(TEXTS), embedder.encode(TEXTS)).min() > 0.9999
    assert back.contract == embedder.contract


@pytest.mark.usefixtures("without_llama_cpp")
def test_the_file_says_pooling_and_closing_token(load, tmp_path):
    export_gguf(load("qwen3"), tmp_path / "model.gguf", precision="q8_0")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    said = {name: field.contents() for name, field in reader.fields.items()}
    assert said["qwen3.pooling_type"] == gguf.PoolingType.LAST
    assert (said["tokenizer.ggml.add_eos_token"], said["tokenizer.ggml.eos_token_id"]) == (True, 2)
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert said["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_down.weight"] == "F16"  # rows of 48 fill no blocks of 32
    assert kinds["output_norm.weight"] == "F32"


@pytest.mark.usefixtures("without_llama_cpp")
@pytest.mark.parametrize(
    ("family", "options", "told"),
    [
        ("gpt_neox", {}, "is a 'gpt_neox' model; GGUF files are written of bloom, gemma3_text"),
        ("qwen3", {"pooling": "weighted_mean"}, "has weighted_mean; llama.cpp knows"),
        ("llama", {"attention": "bidirectional"}, "has attention bidirectional; llama.cpp knows"),
        ("qwen2", {"changes": {"sliding_window": 6, "use_sliding_window": True}}, "has a sliding window of 6 tokens"),
        ("gemma3_text", {"changes": {"layer_types": ["full_attention"] * 2}}, "has windows in other layers"),
        (
            "qwen3",
            {"changes": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}},
            "has rotary positions of type 'linear'",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) and " " not in v else "",
)
def test_what_llama_cpp_lacks_is_refused(load, family, options, told, tmp_path):
    embedder = load(family, **options)
    with pytest.raises(ModelError, match=told) as error:
        export_gguf(embedder, tmp_path / "model.gguf")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.usefixtures("without_llama_cpp")
@pytest.mark.parametrize("suffix", ["\nin one word:", "a"])
def test_words_after_a_text_are_refused(load, suffix, tmp_path):
    embedder = load("qwen3", suffix=suffix)
    with pytest.raises(ModelError, match=r"llama\.cpp puts one marker"):
        export_gguf(embedder, tmp_path / "model.gguf")


@pytest.mark.usefixtures("without_llama_cpp")
def test_roles_that_close_otherwise_need_a_file_each(load, tmp_path):
    embedder = load("bloom")
    roles = {
        "query": {"prefix_ids": (4,), "suffix_ids": (5,)},
        "document": {"prefix_ids": (6,), "suffix_ids": (7,)},
    }
    content = {**embedder.contract.model_dump(), **roles, "symmetric": roles["query"]}
    embedder.use_contract(type(embedder.contract).model_validate(content))
    with pytest.raises(ModelError, match="--role query"):
        export_gguf(embedder, tmp_path / "model.gguf")
    export_gguf(embedder, tmp_path / "model.gguf", role="document")
    said = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "model.gguf").fields.items()}
    assert (said["tokenizer.ggml.bos_token_id"], said["tokenizer.ggml.eos_token_id"]) == (6, 7)
    assert (said["tokenizer.ggml.add_bos_token"], said["tokenizer.ggml.add_eos_token"]) == (True, True)
    assert said["tokenizer.ggml.token_type"][4:8] == [3, 3, 3, 3]


def test_a_file_with_other_vectors_is_not_written(load, tmp_path, monkeypatch):
    embedder = load("qwen2")
    monkeypatch.setattr(gguf_run, "is_installed", lambda: True)
    monkeypatch.setattr(gguf_run, "vectors", lambda path, texts, length: np.eye(32, dtype=np.float32)[: len(texts)])
    with pytest.raises(ContractError, match=r"cosine .*; expected at least 0.999"):
        export_gguf(embedder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def byte_level(change):
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    change(tokenizer)
    return type("Base", (), {"backend_tokenizer": tokenizer})


def split(pattern, **options):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), **{"behavior": "isolated", **options}),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": pre_tokenizers.Whitespace()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": split(r"\s+")},
        {"pre_tokenizer": split(r" ?[^(\s|[.,!?…。，、।۔،])]+", behavior="removed")},
    ],
    ids=["lowercase", "whitespace", "prefix", "pattern", "removed"],
)
def test_tokenizers_that_llama_cpp_lacks_are_refused(change):
    def apply(tokenizer):
        for name, value in change.items():
            setattr(tokenizer, name, value)

    with pytest.raises(ModelError, match=r"which llama\.cpp does not know; export it with --format onnx"):
        vocabulary_of("m", byte_level(apply), 4, ())


def test_patterns_are_named(load):
    def cut(pattern):
        return byte_level(lambda tokenizer: setattr(tokenizer, "pre_tokenizer", split(pattern)))

    assert vocabulary_of("m", byte_level(lambda _: None), 4, ()).pre == "gpt-2"
    assert vocabulary_of("m", cut(r" ?[^(\s|[.,!?…。，、।۔،])]+"), 4, ()).pre == "bloom"
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS as SPLITS

    for name in ("qwen2", "dbrx"):
        assert vocabulary_of("m", cut(SPLITS[name]), 4, ()).pre == name


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_gives_the_same_vectors(load, family, precision, tmp_path):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    embedder = load(family)
    written = export_gguf(embedder, tmp_path / "model.gguf", precision=precision)
    least = {"f16": 0.999, "q8_0": 0.995}[precision]
    assert written.cosine >= least
    theirs = gguf_run.vectors(tmp_path / "model.gguf", TEXTS, 64)
    assert cosines(theirs, embedder.encode(TEXTS)).min() >= least


def test_llama_cpp_joins_pieces_as_the_tokenizer_does(load, make, tmp_path):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    tokenizer = sentencepiece(make)
    embedder = load("gemma3_text", tokenizer=tokenizer, changes={"vocab_size": len(tokenizer)})
    export_gguf(embedder, tmp_path / "model.gguf")
    from llama_cpp import Llama

    model = Llama(str(tmp_path / "model.gguf"), vocab_only=True, verbose=False)
    texts = ["add the hill", "  the      thee", " the", "Größe </s> 把", "a\n\nb"]
    assert [model.tokenize(text.encode()) for text in texts] == embedder.tokenize(texts, "query").ids


def test_llama_cpp_scales_rotary_positions_alike(load, tmp_path):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    scaled = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    embedder = load("llama", changes={"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, **scaled}})
    assert export_gguf(embedder, tmp_path / "model.gguf").cosine > 0.9999


def test_the_command_says_what_callers_must_do(load, udever, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_run, "is_installed", lambda: False)
    embedder = load("qwen3")
    contract = embedder.contract.model_dump()
    contract["query"]["prompt"] = "find: "
    embedder.use_contract(type(embedder.contract).model_validate({**contract, "dimensions": 8}))
    embedder.save(tmp_path / "saved")
    target = tmp_path / "model.gguf"
    code, out, err = udever("export", "-m", tmp_path / "saved", "-o", target, "--format", "gguf")
    assert (code, err) == (0, "")
    assert "not compared: llama-cpp-python is not installed" in out
    assert "query: put 'find: ' in front of each text" in out
    assert "first 8 numbers" in out
    said = gguf.GGUFReader(target).fields
    assert said["udever.prompt.query"].contents() == "find: "
    assert json.loads((tmp_path / "saved" / "udever.json").read_text())["fingerprint"] in str(
        said["general.description"].contents()
    )


@pytest.mark.usefixtures("without_llama_cpp")
def test_an_adapter_is_folded_in(load, tmp_path):
    embedder = load("qwen2")
    before = embedder.encode(TEXTS)
    apply_tuning(embedder.backbone, "lora")
    with torch.no_grad():
        for name, parameter in embedder.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    embedder.weights_changed()
    expected = embedder.encode(TEXTS)
    assert cosines(expected, before).min() < 0.99
    export_gguf(embedder, tmp_path / "model.gguf")
    back = Embedder.load(tmp_path / "model.gguf", dtype="float32")
    assert cosines(back.encode(TEXTS), expected).min() > 0.9999


def test_eight_bits_are_not_exported(load, tmp_path):
    load("qwen3").save(tmp_path / "saved")
    with pytest.raises(ModelError, match="holds int8 weights; give the model it was quantized from"):
        export_gguf(Embedder.load(tmp_path / "saved", dtype="int8"), tmp_path / "model.gguf")
