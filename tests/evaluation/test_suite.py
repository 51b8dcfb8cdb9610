import ast
import itertools
import json
import runpy
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import udever.evaluation
from udever.evaluation.tasks import find_tasks
from udever.search.bm25 import Bm25

SUITE = Path(udever.evaluation.__file__).parent / "suite"
SOURCES = Path(__file__).parents[2] / "dev" / "suite"
TASKS = {task.name: task for task in find_tasks(SUITE)}
RETRIEVAL = [(name, subset) for name, task in TASKS.items() if task.spec.type == "retrieval" for subset in task.subsets]
COLUMNS = {
    "bitext": ("sentence1", "sentence2"),
    "sts": ("sentence1", "sentence2", "score", "split"),
    "classification": ("text", "label", "split"),
    "pair_classification": ("sentence1", "sentence2", "label", "split"),
    "clustering": ("text", "label", "split"),
    "reranking": ("query", "positives", "negatives"),
}
# How the name of a letter begins in each script; a Japanese text may consist of Kanji alone.
SCRIPTS = {
    "Latn": ("LATIN",),
    "Cyrl": ("CYRILLIC",),
    "Grek": ("GREEK",),
    "Arab": ("ARABIC",),
    "Hebr": ("HEBREW",),
    "Deva": ("DEVANAGARI",),
    "Thai": ("THAI",),
    "Jpan": ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "Hans": ("CJK",),
    "Hang": ("HANGUL",),
}
PROGRAMMING = ("python", "javascript", "typescript", "java", "go", "rust", "ruby", "php")


@pytest.fixture(scope="module")
def build():
    return runpy.run_path(str(SOURCES / "build.py"))


@pytest.fixture(scope="module")
def sources():
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in SOURCES.glob("*.jsonl")
    }


def test_the_folders_are_what_the_sources_make(build, tmp_path):
    build["build"](tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(SUITE): path.read_bytes() for path in SUITE.rglob("*") if path.is_file()}
    assert made.keys() == kept.keys()
    assert not [path for path in made if made[path] != kept[path]]


def test_it_holds_every_kind_of_task_in_enough_languages():
    assert {task.spec.type for task in TASKS.values()} == {*COLUMNS, "retrieval"}
    natural = set(TASKS["universal_parallel"].spec.languages)
    assert len(natural) >= 14
    assert len({code.split("-")[1] for code in natural}) >= 8
    searched = TASKS["universal_code_search"].spec.languages
    assert sum(code.endswith("-Code") for code in searched) == 8
    assert sum(not code.endswith("-Code") for code in searched) == 4


@pytest.mark.parametrize("name", TASKS)
def test_languages_are_those_mteb_knows(name):
    from mteb.languages import ISO_TO_LANGUAGE, ISO_TO_SCRIPT, PROGRAMMING_LANGS

    for code in TASKS[name].spec.languages:
        language, script = code.split("-")
        if script == "Code":
            assert language in PROGRAMMING_LANGS
        else:
            assert language in ISO_TO_LANGUAGE and script in ISO_TO_SCRIPT


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.spec.type != "retrieval"])
def test_rows_have_the_columns_of_their_kind_and_none_is_there_twice(name):
    task = TASKS[name]
    counts = {}
    for subset in task.subsets:
        columns = task.read(subset)
        assert tuple(columns) == COLUMNS[task.spec.type]
        rows = [json.dumps(row) for row in zip(*columns.values(), strict=True)]
        assert [row for row, count in Counter(rows).items() if count > 1] == []
        for value in columns.values():
            texts = itertools.chain.from_iterable(v if isinstance(v, list) else [v] for v in value)
            assert all(not isinstance(text, str) or text == text.strip() != "" for text in texts)
        counts[subset] = len(rows)
    assert len(set(counts.values())) == 1
    for split, by_subset in task.spec.splits.items():
        for subset, count in by_subset.items():
            named = task.read(subset).get("split", ["test"] * counts[subset])
            assert named.count(split) == count


@pytest.mark.parametrize(("name", "subset"), RETRIEVAL)
def test_ids_differ_texts_differ_and_every_query_has_an_answer(name, subset):
    task = TASKS[name]
    corpus, queries, qrels = (task.read(subset, part) for part in ("corpus", "queries", "qrels"))
    for table in (corpus, queries):
        assert len(set(table["id"])) == len(set(table["text"])) == len(table["text"])
    assert set(qrels["query_id"]) == set(queries["id"])
    assert set(qrels["corpus_id"]) <= set(corpus["id"])
    assert len(set(zip(qrels["query_id"], qrels["corpus_id"], strict=True))) == len(qrels["score"])


def test_every_text_is_in_the_script_of_its_language(build, sources):
    def check(language, text):
        names = [unicodedata.name(sign).split()[0] for sign in text if unicodedata.category(sign)[0] == "L"]
        right = [name in SCRIPTS[build["SCRIPTS"][language]] for name in names]
        assert names and all(right), (language, text)
        assert unicodedata.is_normalized("NFC", text)

    for name in ("parallel", "questions", "intents", "similarity", "paraphrases"):
        for row in sources[name]:
            for language, value in row.items():
                if language in build["SCRIPTS"]:
                    for text in value if isinstance(value, list) else [value]:
                        check(language, text)
    for row in sources["topics"]:
        check(row["language"], row["text"])
    for row in sources["passages"]:
        for language, text in [*row["passage"].items(), *row["question"].items()]:
            check(language, text)


def test_translations_are_there_in_every_language_and_differ_from_row_to_row(sources):
    assert len(sources["parallel"]) >= 100
    for name in ("parallel", "questions", "functions"):
        rows = sources[name]
        assert {tuple(row) for row in rows} == {tuple(rows[0])}
        for key in rows[0]:
            assert len({row[key] for row in rows}) == len(rows), key


def test_training_rows_of_intents_are_english_and_no_test_row(sources):
    rows = sources["intents"]
    train = {row["eng"] for row in rows if row["split"] == "train"}
    test = {text for row in rows if row["split"] == "test" for text in row.values()}
    assert not train & test
    for split, least in (("train", 10), ("test", 5)):
        assert set(Counter(row["label"] for row in rows if row["split"] == split).values()) == {least}


def grammars():
    import tree_sitter_go
    import tree_sitter_java
    import tree_sitter_javascript
    import tree_sitter_php
    import tree_sitter_ruby
    import tree_sitter_rust
    import tree_sitter_typescript

    return {
        "go": tree_sitter_go.language,
        "java": tree_sitter_java.language,
        "javascript": tree_sitter_javascript.language,
        "php": tree_sitter_php.language_php_only,
        "ruby": tree_sitter_ruby.language,
        "rust": tree_sitter_rust.language,
        "typescript": tree_sitter_typescript.language_typescript,
    }


def test_code_parses_and_gives_nothing_away_by_its_names(sources):
    from tree_sitter import Language, Parser

    found = grammars()
    assert {"python", *found} == set(PROGRAMMING)
    for row in sources["functions"]:
        (function,) = ast.parse(row["python"]).body
        assert function.name == "f"
        for language, grammar in found.items():
            code = f"class T {{\n{row[language]}\n}}" if language == "java" else row[language]
            tree = Parser(Language(grammar())).parse(code.encode())
            assert not tree.root_node.has_error, (row["id"], language)


CASES = {
    "first": (([3, 1, 3], 3), 0), "last": (([3, 1, 3], 3), 2), "palindrome": (("abca",), False),
    "words": (("the big  cat",), "cat big the"), "gcd": ((12, 18), 6), "lcm": ((4, 6), 12), "prime": ((9,), False),
    "factors": ((12,), [2, 2, 3]), "increasing": (([1, 1],), False), "run": (([1, 2, 2, 2, 3],), 3),
    "cumulative": (([1, 2, 3],), [1, 3, 6]), "differences": (([1, 4, 2],), [3, -2]), "balanced": (("([)]",), False),
    "depth": (("(a(b)c)()",), 2), "binary_search": (([1, 3, 5, 7], 5), 2), "merge": (([1, 4], [2, 3]), [1, 2, 3, 4]),
    "transpose": (([[1, 2], [3, 4], [5, 6]],), [[1, 3, 5], [2, 4, 6]]), "trace": (([[1, 2], [3, 4]],), 5),
    "mode": ((["a", "b", "a"],), "a"), "unique": ((["a", "b", "a", "c"],), ["b", "c"]), "encode": (("aaab",), "a3b1"),
    "decode": (("a3b12",), "aaa" + "b" * 12), "to_bits": ((8,), "1000"), "from_bits": (("101",), 5),
}  # fmt: skip


def test_the_python_functions_do_what_their_row_says(sources):
    assert {row["id"] for row in sources["functions"]} == CASES.keys() == {row["id"] for row in sources["questions"]}
    for row in sources["functions"]:
        space: dict = {}
        exec(row["python"], space)
        arguments, expected = CASES[row["id"]]
        assert space["f"](*arguments) == expected, row["id"]


def ndcg(task, subset, rank):
    corpus, queries, qrels = (task.read(subset, part) for part in ("corpus", "queries", "qrels"))
    rows = {name: row for row, name in enumerate(corpus["id"])}
    relevant = {name: [] for name in queries["id"]}
    for query, document in zip(qrels["query_id"], qrels["corpus_id"], strict=True):
        relevant[query].append(rows[document])
    ranked = rank(queries["text"], corpus["text"])
    discounts = 1 / np.log2(np.arange(2, 12))
    gains = [np.isin(row, found) @ discounts[: len(row)] for row, found in zip(ranked, relevant.values(), strict=True)]
    ideal = [discounts[: min(10, len(found))].sum() for found in relevant.values()]
    return np.mean(np.array(gains) / ideal)


LIMITS = {"universal_answers": 0.1, "universal_code_search": 0.1, "universal_code_to_code": 0.2}
"""The most that BM25 may reach, nDCG@10."""


@pytest.mark.parametrize("name", LIMITS)
def test_lexical_and_random_rankings_score_low(name):
    task = TASKS[name]

    def lexical(queries, documents):
        return Bm25(documents).top_k(queries, 10)

    def chance(queries, documents):
        rng = np.random.default_rng(0)
        return np.stack([rng.permutation(len(documents))[:10] for _ in queries])

    assert np.mean([ndcg(task, subset, lexical) for subset in task.subsets]) < LIMITS[name]
    assert np.mean([ndcg(task, subset, chance) for subset in task.subsets]) < 0.15


def test_words_in_common_speak_against_the_grade_of_a_pair(sources):
    """Spearman of shared words with the grade; a pair of equal meaning never shares most of its words."""
    from udever.text.words import words

    for language in ("eng", "deu", "spa", "rus", "ara", "cmn"):
        shared = []
        for row in sources["similarity"]:
            left, right = ({*words(text)} for text in row[language])
            shared.append(len(left & right) / len(left | right))
        grades = [row["score"] for row in sources["similarity"]]
        ranks = [np.argsort(np.argsort(values)) for values in (shared, grades)]
        assert np.corrcoef(ranks)[0, 1] < 0.35, language
    for row in sources["paraphrases"]:
        for language, (anchor, same, other) in row.items():
            overlaps = [len({*words(anchor)} & {*words(text)}) for text in (same, other)]
            assert overlaps[0] <= overlaps[1], (language, anchor)
