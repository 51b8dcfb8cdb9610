"""Every kind of folder task through mteb's own evaluators, against the scores worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from udever.errors import DataError
from udever.evaluation.item_scores import NOWHERE, Collector
from udever.evaluation.mteb_task import as_mteb_task
from udever.evaluation.statistics import statistic
from udever.evaluation.tasks import FolderTask


def score(folder, model):
    """(scores by subset, items by subset) of the one split that is scored."""
    task = as_mteb_task(FolderTask(folder))
    task.load_data()
    collector = Collector(task)
    (split,) = task.eval_splits
    scores = task.evaluate(model, split, encode_kwargs={}, prediction_folder=NOWHERE)
    return scores, {items.subset: items for items in collector.items(split, scores)}


@pytest.fixture
def run(tmp_path, tiny, mteb_model):
    def run(kind, tables=None, **spec):
        return score(
            tiny.write(tmp_path / kind, kind, tables, **spec), mteb_model(embed=spec.pop("embed", None) or oracle)
        )

    return run


def oracle(texts, role, prompt):
    """The number at a text's end as a direction: texts with the same number are the same."""
    angle = np.array([float(text.split()[-1]) for text in texts]) / 10
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_sts(run):
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n + n * n}", "score": (n * 7) % 5} for n in range(5)]
    cosines = [np.cos(n * n / 10) for n in range(5)]
    expected = spearmanr(cosines, [row["score"] for row in rows])[0]
    scores, items = run("sts", {"en": rows})
    assert scores["en"]["main_score"] == pytest.approx(expected)
    assert statistic(items["en"]) == pytest.approx(expected)
    assert run("sts")[0]["en"]["main_score"] < 1  # its row of the development split is left out


def test_bitext(run):
    scores, items = run("bitext")
    assert {subset: entry["main_score"] for subset, entry in scores.items()} == {"deu-eng": 1, "fra-eng": 1}
    assert items["deu-eng"].values.tolist() == [1] * 8
    rows = [{"sentence1": f"a {n if n < 3 else 0}", "sentence2": f"b {n}"} for n in range(4)]
    scores, items = run("bitext", {"deu-eng": rows})
    # the last finds the first: the first was found twice, so its F1 is 2/3
    assert items["deu-eng"].values.tolist() == pytest.approx([2 / 3, 1, 1, 0])
    assert scores["deu-eng"]["main_score"] == pytest.approx((2 / 3 + 2) / 4)


def test_bitext_from_pools(run):
    tables = {
        "deu-eng.sentence1": [{"id": f"a{n}", "text": f"Satz {n}"} for n in range(4)],
        "deu-eng.sentence2": [{"id": f"b{n}", "text": f"sentence {n}"} for n in range(9)],
        "deu-eng.gold": [{"index1": 1, "index2": 1}, {"index1": 3, "index2": 8}],
    }
    scores, items = run("bitext", tables, splits={"dev": 2})
    assert scores["deu-eng"]["accuracy"] == 0.5
    assert items["deu-eng"].values.tolist() == [1, 0]


def test_classification(run):
    rows = [
        {"text": f"day {n % 2}", "label": f"{9 + n % 2}", "split": "train" if n < 20 else "test"} for n in range(32)
    ]
    scores, items = run("classification", {"en": rows})
    assert scores["en"]["main_score"] == 1 and items["en"].values.tolist() == [1] * 12
    assert scores["en"]["ap"] == 1


def test_classification_takes_the_settings_of_the_public_task(tmp_path, tiny):
    def settings(**spec):
        task = as_mteb_task(FolderTask(tiny.write(tmp_path / "t", "classification", **spec)))
        return task.samples_per_label, task.n_experiments

    assert settings() == (8, 10)
    assert settings(mteb_name="AmazonCounterfactualClassification") == (32, 10)
    assert settings(samples_per_label=3, num_experiments=2) == (3, 2)


def test_pair_classification(run, tiny):
    scores, items = run("pair_classification")
    rows = tiny.tables["pair_classification"]["en"]
    cosines = [np.cos((int(r["sentence1"][-2:]) - int(r["sentence2"].split()[-1])) / 10) for r in rows]
    labels = [row["label"] for row in rows]
    assert scores["en"]["cosine_ap"] == pytest.approx(average_precision_score(labels, np.float32(cosines)), abs=0.05)
    assert statistic(items["en"]) == pytest.approx(scores["en"]["max_ap"])
    scores, items = run("pair_classification", main_score="max_accuracy")
    assert statistic(items["en"]) == pytest.approx(scores["en"]["max_accuracy"])


def test_clustering(run):
    rows = [{"text": f"t {10 * (n % 2)}", "label": f"l{n % 2}"} for n in range(20)]
    scores, items = run("clustering", {"en": rows})
    assert scores["en"]["main_score"] == pytest.approx(1)
    assert len(items["en"].values) == 10


def test_retrieval(run):
    scores, items = run("retrieval")
    assert scores["en"]["main_score"] == 1 and items["en"].values.tolist() == [1] * 5


def test_cross_lingual_retrieval_searches_the_other_language(run, mteb_model):
    scores, items = run("crosslingual_retrieval")
    assert set(scores) == {"de-en", "en-de"} == set(items)
    assert scores["de-en"]["main_score"] == 1


def test_reranking(run, tiny):
    tables = {
        "en": [
            {"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"n {n + 5}", f"n {n + 9}"]} for n in range(6)
        ]
    }
    scores, items = run("reranking", tables, main_score="map")
    assert scores["en"]["main_score"] == 1 and len(items["en"].values) == 6
    tables["en"][0]["negatives"] = ["n 0"]  # a tie goes against the positive
    assert run("reranking", tables)[0]["en"]["main_score"] == pytest.approx((5 + 0.5) / 6, abs=1e-5)


def test_nothing_is_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("sts")
    assert not Path(NOWHERE).exists()


def test_a_metric_of_its_own_gets_no_items(tmp_path, tiny, mteb_model):
    folder = tiny.write(tmp_path / "t", "sts", main_score="cosine_pearson")
    assert score(folder, mteb_model(embed=oracle))[1] == {}


def test_a_relevance_that_is_no_whole_number_is_refused(tmp_path, tiny):
    """The metrics count in whole grades: 0.9 would be cut to not relevant."""
    folder = tiny.write(tmp_path / "retrieval", "retrieval")
    path = next(path for path in folder.iterdir() if path.stem.endswith("qrels"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | {"score": 0.9}) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"row 0: score is 0\.9; expected a whole number"):
        as_mteb_task(FolderTask(folder)).load_data()
