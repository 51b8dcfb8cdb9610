import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from udever.errors import ModelError, TextError
from udever.model.contract import Contract, Role
from udever.model.markers import with_suffix
from udever.model.tokens import TextTokenizer, template_ids

BOS, EOS, BOQ, EOQ, BOD, EOD = 1, 2, 4, 5, 6, 7
ROLES = {
    "query": Role(prefix_ids=(BOQ,), suffix_ids=(EOQ,)),
    "document": Role(prefix_ids=(BOD,), suffix_ids=(EOD,)),
    "symmetric": Role(prefix_ids=(BOQ,), suffix_ids=(EOQ,)),
}
HOSTILE = ["[EOQ]", "</s>", "a </s>", "[BOQ]x[EOQ]", "<s><s>", "<pad>", "[EOD][EOD]", "<unk>"]


def contract(max_length=16, **changes):
    return Contract(**{**ROLES, "max_length": max_length, **changes})


@pytest.fixture(scope="module")
def bpe(make):
    return make.tokenizer()


@pytest.fixture(scope="module")
def unigram(make):
    """A vocabulary whose own pieces spell special tokens, as SentencePiece models have them."""
    pieces = [(name, 0.0) for name in ("<unk>", "<s>", "</s>", "<pad>", "[BOQ]", "[EOQ]", "[BOD]", "[EOD]")]
    pieces += [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz</>[]EOQBD"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    return make.wrap_tokenizer(tokenizer)


@given(texts=st.lists(st.text() | st.sampled_from(HOSTILE), max_size=6), limit=st.integers(3, 20))
def test_markers_survive_every_truncation_and_no_text_forges_one(bpe, texts, limit):
    plain = TextTokenizer(bpe, contract(10_000)).encode(texts, "document")
    cut = TextTokenizer(bpe, contract(limit)).encode(texts, "document")
    for row, (whole, ids) in enumerate(zip(plain.ids, cut.ids, strict=True)):
        assert ids[0] == BOD
        assert ids[-1] == EOD
        assert not set(ids[1:-1]) & set(range(8))
        assert ids[:-1] == whole[: min(limit, len(whole)) - 1]
        assert cut.truncation.num_tokens[row] == len(whole)
        assert cut.truncation.truncated[row] == (len(whole) > limit)
        assert bpe.decode(whole[1:-1], clean_up_tokenization_spaces=False) == texts[row]


@given(texts=st.lists(st.text() | st.sampled_from(["in a word", *HOSTILE]), max_size=6), limit=st.integers(20, 40))
def test_words_after_a_text_survive_every_truncation_and_may_stand_in_it(bpe, texts, limit):
    suffixed = with_suffix(contract(limit), " in a word", bpe)
    words = list(suffixed.query.suffix_ids)
    tokenizer, plain = TextTokenizer(bpe, suffixed), TextTokenizer(bpe, contract(10_000))
    for text, ids in zip(texts, tokenizer.encode(texts, "query").ids, strict=True):
        whole = plain.encode([text], "query").ids[0][1:-1]
        assert ids == [BOQ, *whole[: limit - 1 - len(words)], *words]
        parts = [piece.part for piece in tokenizer.explain(text, "query").pieces]
        assert parts == ["marker", *["text"] * (len(ids) - 1 - len(words)), *["prompt"] * len(words)]


def test_a_contract_without_words_after_a_text_is_written_as_before():
    assert "suffix_is_text" not in contract().model_dump_json()
    role = Role(suffix_ids=(9,), suffix_is_text=True)
    assert Role.model_validate_json(role.model_dump_json()) == role


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_special_token_written_in_a_text_is_its_characters(kind, text, request):
    hf = request.getfixturevalue(kind)
    ids = TextTokenizer(hf, contract(99)).encode([text], "query").ids[0]
    assert (ids[0], ids[-1]) == (BOQ, EOQ)
    if (kind, text) != ("unigram", "<unk>"):  # what a vocabulary lacks is unknown, and that is no forgery
        assert len(ids[1:-1]) > 2
        assert not set(ids[1:-1]) & set(range(8))


def test_a_unigram_text_keeps_its_other_tokens(unigram):
    tokenizer = TextTokenizer(unigram, contract(99))
    around = [tokenizer.encode([text], "query").ids[0][1:-1] for text in ("ab", "cd")]
    both = tokenizer.encode(["ab</s>cd"], "query").ids[0][1:-1]
    vocabulary = unigram.get_vocab()
    assert both[: len(around[0])] == around[0]
    assert both[-2:] == [vocabulary["c"], vocabulary["d"]]
    spelled = [unigram.convert_ids_to_tokens(i) for i in both[len(around[0]) : -2]]
    assert "".join(spelled).replace("▁", "") == "</s>"


def test_a_prompt_is_tokenised_with_its_text_and_its_special_tokens_are_meant(bpe):
    tokenizer = TextTokenizer(bpe, contract(99, query=Role(prompt="<s>find: ", suffix_ids=(EOS,))))
    ids = tokenizer.encode(["numbers"], "query").ids[0]
    assert ids == [BOS, *bpe.encode("find: numbers", add_special_tokens=False), EOS]
    other = tokenizer.encode(["numbers"], "query", "[BOD]</s>in: ").ids[0]
    assert other == [BOD, EOS, *bpe.encode("in: numbers", add_special_tokens=False), EOS]
    # the same characters in a text stay characters
    forged = tokenizer.encode(["<s>find: numbers"], "query", "").ids[0]
    assert forged[0] != BOS


def test_the_prompt_that_is_not_pooled_is_counted(bpe):
    role = Role(prefix_ids=(BOS,), prompt="find: ", suffix_ids=(EOS,))
    tokenizer = TextTokenizer(bpe, contract(99, query=role, pool_prompt=False))
    assert tokenizer.encode(["x"], "query").skip == 1 + len(bpe.encode("find: ", add_special_tokens=False))
    assert TextTokenizer(bpe, contract(99, query=role)).encode(["x"], "query").skip == 0
    assert tokenizer.encode(["x"], "query", "").skip == 0  # the marker goes with the prompt, or is pooled
    assert tokenizer.encode_ids([[300]], "query", "").skip == 0


def test_a_prompt_that_leaves_no_room_is_refused(bpe):
    with pytest.raises(TextError, match="shorten the prompt"):
        TextTokenizer(bpe, contract(4)).encode(["x"], "query", "<s><s><s>")


def test_a_plain_prompt_that_leaves_no_room_is_refused(bpe):
    """Otherwise every text would get the vector of its prompt."""
    with pytest.raises(TextError, match="shorten the prompt"):
        TextTokenizer(bpe, contract(8)).encode(["x", "y"], "query", "a prompt of many, many letters: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ok\ud800", r"row 1 .*U\+D800 at character 2"),
        (b"bytes", "row 1 is bytes"),
        (None, "row 1 is NoneType"),
    ],
)
def test_what_is_no_text_is_refused_with_its_row(bpe, text, message):
    with pytest.raises(TextError, match=message):
        TextTokenizer(bpe, contract()).encode(["fine", text], "query")


def test_an_empty_text_without_markers_gets_one_token(bpe):
    bare = {name: Role() for name in ROLES}
    assert TextTokenizer(bpe, contract(**bare)).encode([""], "query").ids == [[EOS]]


def test_nothing_gives_nothing(bpe):
    tokenized = TextTokenizer(bpe, contract()).encode([], "query")
    assert tokenized.ids == []
    assert tokenized.truncation.truncated.dtype == np.bool_


@settings(max_examples=10)
@given(before=st.sampled_from([[], [BOS], [BOQ, BOS]]), after=st.sampled_from([[], [EOS], [EOQ, EOS]]))
def test_the_template_of_a_tokenizer_is_found_and_not_applied_twice(make, before, after):
    hf = make.tokenizer()
    names = {i: hf.convert_ids_to_tokens(i) for i in (*before, *after)}
    single = " ".join([*(names[i] for i in before), "$A", *(names[i] for i in after)])
    hf.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[(name, i) for i, name in names.items()]
    )
    assert template_ids(hf) == (tuple(before), tuple(after))
    assert TextTokenizer(hf, contract()).encode(["a"], "query").ids == [[BOQ, hf.get_vocab()["a"], EOQ]]


@given(texts=st.lists(st.text() | st.sampled_from(HOSTILE), min_size=1, max_size=4), limit=st.integers(3, 20))
def test_a_text_explained_is_the_text_encoded(bpe, texts, limit):
    tokenizer = TextTokenizer(bpe, contract(limit))
    encoded = tokenizer.encode(texts, "document")
    for row, text in enumerate(texts):
        explained = tokenizer.explain(text, "document")
        assert [piece.id for piece in explained.pieces] == encoded.ids[row]
        assert [piece.part for piece in explained.pieces] == [
            "marker",
            *["text"] * (len(encoded.ids[row]) - 2),
            "marker",
        ]
        shown = "".join(piece.text for piece in explained.pieces if piece.part == "text")
        assert explained.num_tokens == encoded.truncation.num_tokens[row]
        assert bool(explained.cut) <= bool(encoded.truncation.truncated[row])
        assert shown + explained.cut == text


def test_a_prompt_is_told_from_the_text(bpe):
    tokenizer = TextTokenizer(bpe, contract(30))
    pieces = tokenizer.explain("hello", "query", "</s>find: ").pieces
    assert [piece.id for piece in pieces] == tokenizer.encode(["hello"], "query", "</s>find: ").ids[0]
    assert (pieces[0].text, pieces[1].text, pieces[1].part) == ("[BOQ]", "</s>", "prompt")
    assert "".join(piece.text for piece in pieces if piece.part == "text") == "hello"
    assert "".join(piece.text for piece in pieces[2:] if piece.part == "prompt") == "find: "


@pytest.mark.parametrize("text", HOSTILE)
def test_spelled_special_tokens_are_explained_too(text, unigram):
    tokenizer = TextTokenizer(unigram, contract(99))
    ids = [piece.id for piece in tokenizer.explain(text, "query").pieces]
    assert ids == tokenizer.encode([text], "query").ids[0]


@given(text=st.text(), limit=st.integers(3, 20))
def test_ids_of_a_text_give_what_the_text_gives(bpe, text, limit):
    tokenizer = TextTokenizer(bpe, contract(limit))
    ids = TextTokenizer(bpe, contract(10_000)).encode([text], "query").ids[0][1:-1]
    ours, theirs = tokenizer.encode_ids([ids], "query"), tokenizer.encode([text], "query")
    assert ours.ids == theirs.ids
    assert ours.truncation.truncated.tolist() == theirs.truncation.truncated.tolist()


@pytest.mark.parametrize("token", [EOS, BOQ, EOD, 3])
def test_a_special_token_among_ids_is_refused(token, bpe):
    with pytest.raises(TextError, match=f"row 1 holds the special token {token}"):
        TextTokenizer(bpe, contract(99)).encode_ids([[20], [20, token]], "query")


def test_of_a_text_far_too_long_only_the_beginning_is_tokenised_and_the_cut_is_told(bpe):
    tokenizer = TextTokenizer(bpe, contract(max_length=16))
    spaces = " " * 2_000_000
    short, long, hidden = "a b", "word " * 1_000_000, "a" + spaces + "b"
    tokenized = tokenizer.encode([short, long, hidden], "document")
    assert tokenized.truncation.truncated.tolist() == [False, True, True]
    assert (tokenized.truncation.num_tokens < 5_000).all()
    assert tokenized.ids[1] == tokenizer.encode(["word " * 100], "document").ids[0]
    assert tokenizer.explain(hidden, "document").cut.endswith(" b")


ADDED = ["<a>", "<ab>", "ab", "hello", "<|x|>", "<|xy|>", "[EOQ", "é", " add", "{{", "<think>", "def"]


@st.composite
def grown_tokenizers(draw, make):
    """Ordinary and special tokens added inside and behind a vocabulary, before and after wrapping."""
    unigram = draw(st.booleans())
    names = draw(st.lists(st.sampled_from(ADDED), unique=True, max_size=8))
    tokens = [
        AddedToken(
            name,
            special=draw(st.booleans()),
            lstrip=draw(st.booleans()),
            rstrip=draw(st.booleans()),
            single_word=draw(st.booleans()),
            normalized=draw(st.booleans()),
        )
        for name in names
    ]
    cut = draw(st.integers(0, len(tokens)))
    if unigram:
        pieces = [("<unk>", 0.0), *((letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz</>[]EOQBD"), ("ab", -3.0)]
        backend = Tokenizer(models.Unigram(pieces, unk_id=0))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        backend = make.tokenizer().backend_tokenizer
    for token in tokens[:cut]:
        backend.add_tokens([token])
    hf = make.wrap_tokenizer(backend)
    hf.add_special_tokens({"pad_token": draw(st.sampled_from(["<pad>", "<later>"]))})
    for token in tokens[cut:]:
        hf.add_tokens([token])
    return hf


@settings(max_examples=150)
@given(data=st.data())
def test_a_text_without_special_tokens_has_the_ids_of_the_tokenizer_itself(make, data):
    hf = data.draw(grown_tokenizers(make))
    special = [token.content for token in hf.added_tokens_decoder.values() if token.special]
    markers = data.draw(
        st.sampled_from([(), tuple(i for i, t in hf.added_tokens_decoder.items() if not t.special)[:1]])
    )
    special += [hf.convert_ids_to_tokens(i) for i in markers]
    pieces = st.lists(st.sampled_from([*ADDED, " ", "x", "\n"]) | st.text(max_size=4), max_size=8).map("".join)
    text = data.draw(pieces.filter(lambda text: not any(name in text for name in special)))
    bare = {name: Role(prefix_ids=markers) for name in ROLES}
    ids = TextTokenizer(hf, contract(10_000, **bare)).encode([f"x{text}"], "query").ids[0]
    assert ids == [*markers, *hf.encode(f"x{text}", add_special_tokens=False)]
    forged = TextTokenizer(hf, contract(10_000, **bare)).encode(["".join(special)], "query").ids[0]
    named = {hf.convert_tokens_to_ids(name) for name in special} - {hf.unk_token_id}
    assert not named & set(forged[len(markers) :]) or forged == [hf.eos_token_id]


def test_an_added_token_of_two_numbers_is_refused_at_load(bpe):
    class Misnumbered:
        def __getattr__(self, name):
            return getattr(bpe.backend_tokenizer, name)

        def get_added_tokens_decoder(self):
            return {i + 1: token for i, token in bpe.backend_tokenizer.get_added_tokens_decoder().items()}

    class Wrapped:
        backend_tokenizer = Misnumbered()

        def __getattr__(self, name):
            return getattr(bpe, name)

    with pytest.raises(ModelError, match="two ids"):
        TextTokenizer(Wrapped(), contract())
