from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from udever.pairs.mining.dedupe import MAX_SAME_ANCHOR, dedupe
from udever.pairs.schema import Pair
from udever.text.grouping import THRESHOLD
from udever.text.minhash import Shingled, jaccard

WORDS = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]), min_size=1, max_size=12)
ROWS = st.lists(
    st.builds(
        Pair,
        anchor=WORDS.map(" ".join),
        positive=WORDS.map(" ".join),
        positive_language=st.sampled_from(["python-Code", "deu-Latn"]),
        kind=st.sampled_from(["symmetric", "asymmetric"]),
        source=st.sampled_from(["a", "b", "c"]),
    ),
    max_size=25,
)


@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(pairs, choice):
    shuffled = list(pairs)
    choice.shuffle(shuffled)
    counts, others = Counter[str](), Counter[str]()
    assert dedupe(pairs, counts) == dedupe(shuffled, others)
    assert counts == others


@given(ROWS)
def test_no_two_rows_are_near_and_every_row_is_accounted_for(pairs):
    skipped: Counter[str] = Counter()
    kept = dedupe(pairs, skipped)
    assert len(kept) + sum(skipped.values()) == len(pairs)
    assert dedupe(kept, Counter()) == kept
    for code in (True, False):
        sets = [
            Shingled([pair.positive]).of(0)
            for pair in kept
            if pair.kind == "asymmetric" and (pair.positive_language == "python-Code") == code
        ]
        assert all(jaccard(sets[i], sets[j]) < THRESHOLD for i in range(len(sets)) for j in range(i))


def test_equal_and_nearly_equal_functions_go_others_stay():
    body = "\n".join(f"    value_{i} = compute_{i}(value_{i})" for i in range(30))
    texts = {
        "a": f"def f():\n{body}",
        "b": f"def f():\n\n{body}  ",
        "c": f"def g():\n{body}",
        "d": f"def f():\n{body}".replace("compute", "other"),
    }
    pairs = [Pair(f"anchor {name}", text, positive_language="python-Code", source=name) for name, text in texts.items()]
    skipped: Counter[str] = Counter()
    assert [pair.source for pair in dedupe(pairs, skipped)] == ["a", "d"]
    assert skipped == {"row: duplicate": 1, "row: near duplicate": 1}


def test_kinds_are_compared_among_themselves_and_translations_by_both_sides():
    pairs = [
        Pair("one two", "same text", positive_language="python-Code", source="a"),
        Pair("three four", "same text", source="b"),
        Pair("five six", "same text", positive_language="deu-Latn", kind="symmetric", source="c"),
        Pair("five seven", "same text", positive_language="deu-Latn", kind="symmetric", source="c"),
        Pair("five six", "same text", positive_language="nld-Latn", kind="symmetric", source="d"),
    ]
    assert dedupe(pairs, Counter()) == sorted(pairs, key=lambda pair: (pair.source, pair.anchor))


def test_an_anchor_that_many_share_is_kept_once_and_few_share_a_group():
    def rows(anchor: str, count: int) -> list[Pair]:
        return [Pair(anchor, f"{anchor} {'xyz'[:i]} {i} {i * i} {i + 7}", source=str(i)) for i in range(count)]

    skipped: Counter[str] = Counter()
    kept = dedupe(
        rows("Return it.", MAX_SAME_ANCHOR + 2) + rows("Open it.", MAX_SAME_ANCHOR) + rows("Once.", 1),
        skipped,
    )
    assert Counter(pair.anchor for pair in kept) == {"Return it.": 1, "Open it.": MAX_SAME_ANCHOR, "Once.": 1}
    assert skipped == {"row: anchor that over 3 rows share": MAX_SAME_ANCHOR + 1}
    assert len({pair.group for pair in kept if pair.anchor == "Open it."} - {None}) == 1
    assert [pair.group for pair in kept if pair.anchor == "Once."] == [None]


def test_near_duplicates_are_found_among_many():
    texts = [" ".join(f"{word}{number * 31 % 997}" for word in ("a", "b", "c") * 15) for number in range(300)]
    texts = [f"{text} {' '.join(str(number * k) for k in range(60))}" for number, text in enumerate(texts)]
    copies = [text + " end" for text in texts]
    skipped: Counter[str] = Counter()
    pairs = [Pair(f"anchor {text}", text, source=f"{place:03}") for place, text in enumerate([*texts, *copies])]
    assert [pair.positive for pair in dedupe(pairs, skipped)] == texts
    assert skipped == {"row: near duplicate": len(texts)}
