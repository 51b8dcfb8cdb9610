import base64
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from udever import Embedder
from udever.errors import ContractError, ModelError, OutputError
from udever.model.adapters import apply_tuning
from udever.model.artefact import trained_on

TEXTS = ["hello world", "", "def add(a, b)", "sum of numbers " * 60, "[EOQ] </s>"]

pytestmark = pytest.mark.filterwarnings("ignore::udever.TruncationWarning")


def load(folder, **changes):
    return Embedder.load(folder, dtype="float32", device="cpu", **changes)


@pytest.fixture
def copy(decoders, tmp_path):
    """family -> a folder with its decoder that a test may spoil."""

    def of(family):
        return shutil.copytree(decoders(family), tmp_path / f"copy-{family}")

    return of


@pytest.fixture
def saved(embedders, tmp_path):
    """A folder saved by us, that a test may spoil."""
    embedders("bloom").save(tmp_path / "saved")
    return tmp_path / "saved"


def refused(folder, match=None, kind=ModelError, **options):
    """Loading raises one line that names the folder or file."""
    with pytest.raises(kind, match=match) as caught:
        Embedder.load(folder, **{"dtype": "float32", "device": "cpu", **options})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gemma3_text", "gpt2", "opt", "falcon", "gemma2"])
def test_a_model_comes_back_from_disk(family, embedders, tmp_path, alone):
    embedder = embedders(family, max_length=100)
    embedder.save(tmp_path / "out")
    back = load(tmp_path / "out")
    np.testing.assert_allclose(
        back.encode(TEXTS, allow_empty=True), embedder.encode(TEXTS, allow_empty=True), atol=1e-6
    )
    assert back.contract == embedder.contract
    assert back.fingerprint == embedder.fingerprint
    assert type(back.backbone) is type(embedder.backbone)
    # and for others: transformers reads the same model from it
    own = AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    ids = embedder.tokenize(["hello"], "query").ids[0]
    with torch.inference_mode():
        torch.testing.assert_close(alone(own, ids)[-1:], embedder.embed_tokens([ids]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"known_as": "izhx/udever-bloom-560m"},
        {"known_as": "bigscience/sgpt-bloom-7b1-msmarco"},
        {"pooling": "mean", "normalize": False, "dimensions": 7},
        {"attention": "bidirectional", "instruction": "Do {instruction}: "},
    ],
)
def test_every_entry_of_the_contract_comes_back(changes, embedders, tmp_path):
    embedder = embedders("bloom", **changes)
    embedder.save(tmp_path / "out")
    back = load(tmp_path / "out")
    assert back.contract == embedder.contract
    assert back.fingerprint == embedder.fingerprint
    for method in ("encode", "encode_query", "encode_document"):
        np.testing.assert_allclose(
            getattr(back, method)(TEXTS, allow_empty=True),
            getattr(embedder, method)(TEXTS, allow_empty=True),
            atol=1e-6,
        )
    changed = load(tmp_path / "out", max_length=50)
    assert changed.fingerprint != embedder.fingerprint


def test_what_a_model_was_trained_on_goes_with_it(decoders, tmp_path):
    """Through adapters, eight bits and every folder that is saved; an account that cannot be read stops no loading."""
    folder = shutil.copytree(decoders("qwen3"), tmp_path / "base")
    (folder / "README.md").write_text("---\ntrained_on: [sts13]\n---\n# A model")
    embedder = load(folder)
    apply_tuning(embedder.backbone, "lora")
    recipe = {"recipe.toml": '[data]\ntrained_on = ["xnli"]\n'}
    embedder.save(tmp_path / "adapter", merged=False, base=str(folder), extra_files=recipe)
    assert load(tmp_path / "adapter").trained_on == {"sts13", "xnli"}
    load(tmp_path / "adapter").save(tmp_path / "whole")
    Embedder.load(tmp_path / "adapter", dtype="int8", device="cpu").save(tmp_path / "small")
    for name in ("whole", "small"):
        assert trained_on(tmp_path / name) == {"sts13", "xnli"}
    for said in ("some pairs", "[sts13", "2024-99-99", "[" * 5000):
        (folder / "README.md").write_text(f"---\ntrained_on: {said}\n---\n# A model")
        assert load(folder).trained_on == frozenset()


def test_a_saved_model_replaces_an_earlier_one_whole(embedders, tmp_path):
    embedders("bloom").save(tmp_path / "out")
    embedders("bloom").save(tmp_path / "out", extra_files={"stale.txt": "of the earlier one"})
    embedders("qwen3").save(tmp_path / "out", notes="## Notes\n\nhow it was made")
    assert not (tmp_path / "out" / "stale.txt").exists()
    assert load(tmp_path / "out").fingerprint == embedders("qwen3").fingerprint
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "how it was made" in readme
    assert embedders("qwen3").fingerprint in readme
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_saving_over_something_else_is_refused(embedders, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError):
        embedders("bloom").save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_loading_in_bfloat16_passes_the_reference_vectors(saved):
    assert load(saved).fingerprint == Embedder.load(saved, dtype="bfloat16", device="cpu").fingerprint


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_vectors_saved_in_bfloat16_come_out_in_float32_as_closely_as_that_allows(precision, decoders, tmp_path):
    """0.9998, as eighteen layers have it between the two: too far for vectors that were computed in float32."""
    Embedder.load(decoders("qwen3"), dtype=precision, device="cpu").save(tmp_path / "out")
    path = tmp_path / "out" / "udever.json"
    written = json.loads(path.read_text())
    assert written["precision"] == precision
    vectors = np.frombuffer(base64.b64decode(written["reference"]), "<f4").reshape(6, -1)
    turned = vectors + np.roll(vectors, 1, axis=1) * 0.02
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    assert 0.9995 < (turned * vectors).sum(1).min() < 0.9999
    edit(path, reference=base64.b64encode(turned.astype("<f4").tobytes()).decode())
    if precision == "float32":
        refused(tmp_path / "out", "are not reproduced", ContractError)
    else:
        assert load(tmp_path / "out").precision == "float32"


@pytest.mark.parametrize(
    "changed",
    [
        {"max_length": 9},
        {"pooling": "mean"},
        {"attention": "bidirectional"},
        {"normalize": False},
        {"dimensions": 8},
        {"instruction": "Find: {instruction}"},
        {"suffix": " in one word:"},
    ],
)
def test_a_changed_entry_of_the_contract_does_not_spare_the_comparison(changed, saved, tmp_path):
    """What the folder's own contract gives is compared, whatever the model is loaded with."""
    shutil.copytree(saved, tmp_path / "out")
    fingerprint = Embedder.load(tmp_path / "out", **changed, device="cpu").fingerprint
    assert fingerprint == Embedder.load(tmp_path / "out", **changed, verify=False, device="cpu").fingerprint
    path = tmp_path / "out" / "udever.json"
    vectors = np.frombuffer(base64.b64decode(json.loads(path.read_text())["reference"]), "<f4")
    edit(path, reference=base64.b64encode((-vectors).astype("<f4").tobytes()).decode())
    with pytest.raises(ContractError, match="are not reproduced"):
        Embedder.load(tmp_path / "out", **changed, device="cpu")
    assert Embedder.load(tmp_path / "out", **changed, verify=False, device="cpu").fingerprint == fingerprint


def spoil_weights(folder):
    state = load_file(folder / "model.safetensors")
    name = next(n for n in state if n.endswith("dense_h_to_4h.weight"))
    state[name] = state[name].flip(0)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def swap_tokens(folder):
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    vocabulary = state["model"]["vocab"]
    vocabulary["a"], vocabulary["d"] = vocabulary["d"], vocabulary["a"]
    path.write_text(json.dumps(state))


def change_pooling(folder):
    path = folder / "udever.json"
    path.write_text(path.read_text().replace('"pooling": "last"', '"pooling": "mean"'))


@pytest.mark.parametrize("spoil", [spoil_weights, swap_tokens, change_pooling])
def test_what_was_altered_after_saving_is_found_out(spoil, saved):
    spoil(saved)
    refused(saved, "changed after saving", ContractError)


def test_weights_of_another_saved_model_are_found_out(saved, make, tmp_path):
    other = make.decoder("bloom", tmp_path / "other", seed=5)
    shutil.copy(other / "model.safetensors", saved / "model.safetensors")
    refused(saved, "changed after saving", ContractError)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "\ufffd",
        '{"format": 2}',
        '{"format": 2, "contract": {}, "fingerprint": "", "reference": "", "files": {}}',
    ],
)
def test_a_broken_udever_json_is_refused(content, saved):
    (saved / "udever.json").write_text(content)
    refused(saved, "udever.json is broken")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["ffff", "f" * 32, "\x1b[31m" + "f" * 27])
def test_a_fingerprint_is_not_believed(name, saved):
    edit(saved / "udever.json", fingerprint=name)
    refused(saved, "fingerprint", kind=ModelError)


def test_reference_vectors_of_another_model_are_found_out(saved):
    reference = json.loads((saved / "udever.json").read_text())["reference"]
    edit(saved / "udever.json", reference=base64.b64encode(base64.b64decode(reference)[::-1]).decode())
    refused(saved, "reference vectors", ContractError)


def test_every_other_row_of_the_table_replaced_by_noise_is_found_out(saved):
    state = load_file(saved / "model.safetensors")
    table = state["word_embeddings.weight"]
    table[1::2] = torch.randn(table[1::2].shape)
    save_file(state, saved / "model.safetensors", metadata={"format": "pt"})
    refused(saved, "model.safetensors was changed", ContractError)
    noisy = load(saved, verify=False)
    assert noisy.fingerprint != json.loads((saved / "udever.json").read_text())["fingerprint"]


DECIDING = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "udever.json")


@pytest.mark.parametrize("name", DECIDING)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bit_of_a_file_that_decides_vectors_goes_unnoticed(name, data, saved):
    """Loading is refused, or (where the bit stands in a comment of sorts) gives the very same vectors."""
    path = saved / name
    whole = path.read_bytes()
    expected = load(saved).encode(TEXTS, allow_empty=True)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(flipped))
    try:
        found = load(saved).encode(TEXTS, allow_empty=True)
    except ModelError as error:
        assert str(saved) in str(error)
    else:
        assert name == "udever.json"
        np.testing.assert_array_equal(found, expected)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("llama", {"rms_norm_eps": 0.1}),
        ("llama", {"rope_parameters": {"rope_theta": 77.0, "rope_type": "default"}}),
        ("mistral", {"sliding_window": 3}),
        ("bloom", {"layer_norm_epsilon": 0.1}),
    ],
)
def test_the_configuration_is_in_the_fingerprint(family, change, copy):
    folder = copy(family)
    before = load(folder).fingerprint
    edit(folder / "config.json", **change)
    assert load(folder).fingerprint != before


def test_what_decides_no_vector_is_not_in_the_fingerprint(copy):
    folder = copy("llama")
    before = load(folder).fingerprint
    edit(folder / "config.json", architectures=["Another"], transformers_version="1.2.3", use_cache=False)
    assert load(folder).fingerprint == before


@pytest.mark.parametrize("reference", ["", "AAAA", "not base64!", "AAAAAA=="])
def test_broken_reference_vectors_are_refused(reference, saved):
    path = saved / "udever.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "reference": reference}))
    refused(saved)


@pytest.mark.parametrize("number", [1, 99, None])
def test_an_unknown_format_is_refused(number, saved):
    path = saved / "udever.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": number}))
    refused(saved, "format")


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_missing_weights_are_refused(family, copy):
    folder = copy(family)
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_pickled_weights_need_a_word(family, copy, decoders):
    folder = copy(family)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder, "allow_pickle")
    embedder = load(folder, allow_pickle=True)
    np.testing.assert_allclose(
        embedder.encode(TEXTS, allow_empty=True), load(decoders(family)).encode(TEXTS, allow_empty=True), atol=1e-6
    )
    assert embedder.fingerprint != load(decoders("qwen3")).fingerprint


@pytest.mark.parametrize("family", ["bloom", "llama"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_broken_weights_are_refused(family, content, copy):
    folder = copy(family)
    (folder / "model.safetensors").write_bytes(content)
    refused(folder)


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_half_a_weight_file_is_refused(family, copy):
    path = copy(family) / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path.parent)


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_a_missing_tensor_is_named(family, copy):
    path = copy(family) / "model.safetensors"
    state = load_file(path)
    gone = next(name for name in state if "1." in name and name.endswith("norm.weight"))
    save_file({n: t for n, t in state.items() if n != gone}, path, metadata={"format": "pt"})
    refused(path.parent, gone)


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_a_tensor_of_another_shape_is_refused(family, copy):
    path = copy(family) / "config.json"
    config = json.loads(path.read_text())
    config["vocab_size"] = 500
    path.write_text(json.dumps(config))
    refused(path.parent)


@pytest.mark.parametrize("family", ["bloom", "llama"])
@pytest.mark.parametrize(
    "content", ["garbage", "{}", '{"weight_map": {"a": "model-1.safetensors"}}', '{"weight_map": []}']
)
def test_a_broken_index_of_weights_is_refused(family, content, copy):
    folder = copy(family)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder)


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_sharded_weights(family, make, decoders, tmp_path):
    from transformers import AutoModel

    folder = shutil.copytree(decoders(family), tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    AutoModel.from_pretrained(decoders(family), dtype=torch.float32).save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    np.testing.assert_array_equal(
        load(folder).encode(TEXTS, allow_empty=True), load(decoders(family)).encode(TEXTS, allow_empty=True)
    )
    before = load(folder).fingerprint
    shard = max(folder.glob("model-*.safetensors"))
    state = load_file(shard)
    first = sorted(state)[0]
    state[first] = state[first] + 1
    save_file(state, shard, metadata={"format": "pt"})
    assert load(folder).fingerprint != before


@pytest.mark.parametrize("content", ["", "garbage", "[]", "{}", "null", '{"model_type": "no_such_model"}'])
def test_a_broken_config_is_refused_by_its_name(content, copy):
    folder = copy("llama")
    (folder / "config.json").write_text(content)
    refused(folder, "config.json")


@pytest.mark.parametrize("change", [{"n_head": 0}, {"n_head": 5}, {"n_layer": -1}, {"hidden_size": "wide"}])
def test_a_config_with_nonsense_values_is_refused(change, copy):
    path = copy("bloom") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(path.parent)


def test_a_folder_without_config_or_tokenizer_is_refused(copy, tmp_path):
    folder = copy("llama")
    for path in folder.glob("*token*"):
        path.unlink()
    refused(folder, "tokenizer")
    (folder / "config.json").unlink()
    refused(folder, "config.json")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "config.json")


def test_a_broken_tokenizer_is_refused(copy):
    folder = copy("llama")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "tokenizer")


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./neither", "a/b/c", "~/nothing", "nobody/no-such-model", "", "a b"]
)
def test_a_name_that_is_nothing_is_refused(name):
    refused(name)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "model").write_text("x")
    refused(tmp_path / "model", "not a folder")


def test_an_adapter_whose_base_is_gone_names_it(embedders, copy, tmp_path):
    from udever.model import adapters

    embedder = load(copy("bloom"))
    adapters.apply_tuning(embedder.backbone, "bitfit")
    embedder.save(tmp_path / "adapter", merged=False)
    shutil.rmtree(embedder.name)
    refused(tmp_path / "adapter", "copy-bloom")


def test_an_adapter_over_another_base_is_found_out(copy, make, tmp_path):
    from udever.model import adapters

    embedder = load(copy("bloom"))
    adapters.apply_tuning(embedder.backbone, "bitfit")
    embedder.save(tmp_path / "adapter", merged=False)
    shutil.rmtree(embedder.name)
    make.decoder("bloom", embedder.name, seed=7)
    refused(tmp_path / "adapter", kind=ContractError)


@pytest.mark.parametrize("name", ["T5", "XLNet"])
def test_a_family_that_is_no_decoder_is_refused_by_its_name(name, make, tmp_path):
    import transformers

    sizes = {
        "T5": {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2},
        "XLNet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16},
    }[name]
    config = getattr(transformers, f"{name}Config")(vocab_size=make.vocabulary, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    make.tokenizer().save_pretrained(tmp_path)
    refused(tmp_path, match=config.model_type)


def test_mpt_loads_from_a_folder(make, tmp_path):
    import transformers

    config = transformers.MptConfig(vocab_size=make.vocabulary, d_model=32, n_heads=4, n_layers=2, max_seq_len=256)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    make.tokenizer().save_pretrained(tmp_path)
    embedder = Embedder.load(tmp_path, dtype="float32", device="cpu", max_length=64)
    vectors = embedder.encode(TEXTS[:3], allow_empty=True)
    assert abs(vectors[0] - embedder.encode(TEXTS[0])).max() < 1e-5
