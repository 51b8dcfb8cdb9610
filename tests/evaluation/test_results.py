import json

import numpy as np
import pytest

from udever.errors import DataError
from udever.evaluation.results import (
    TaskRecord,
    model_folder,
    paired_intervals,
    read_items,
    read_scores,
    read_task,
    write_model,
    write_task,
)
from udever.evaluation.statistics import Items


def record(value=0.5, items=(), **changes):
    entry = {"main_score": value, "hf_subset": "en", "languages": ["eng-Latn"], "ap": float("nan")}
    options = {"dataset_revision": "d1", "trained_on": True, **changes}
    return TaskRecord(
        task="mine",
        task_type="STS",
        metric="cosine_spearman",
        scores={"test": [entry]},
        seconds=1.0,
        mteb_version="2.0.0",
        items=items,
        **options,
    )


def put(results, name="org/a", values=(1.0, 0.0, 1.0), **changes):
    folder = model_folder(results, name, "r1")
    write_model(folder, {"name": name, "revision": "r1", "n_parameters": 7, "embed_dim": 3})
    values = np.array(values)
    write_task(folder, record(float(values.mean()), [Items("test", "en", "mean", values)], **changes))
    return folder


def test_what_is_written_is_read(tmp_path):
    folder = put(tmp_path)
    assert folder == tmp_path / "org__a" / "r1"
    (model,) = read_scores([tmp_path])
    assert (model.name, model.revision, model.num_parameters, model.dimensions) == ("org/a", "r1", 7, 3)
    (score,) = model.scores
    assert (score.task, score.task_type, score.split, score.subset) == ("mine", "STS", "test", "en")
    assert (score.languages, score.metric, score.trained_on) == (("eng-Latn",), "cosine_spearman", True)
    assert score.value == pytest.approx(2 / 3)
    assert score.low <= score.value <= score.high
    np.testing.assert_array_equal(read_items(folder, "mine")["test", "en"].values, [1, 0, 1])
    assert read_scores([folder, tmp_path / "org__a"]) == [model]


def test_mteb_reads_it(tmp_path):
    from mteb.results import TaskResult

    result = TaskResult.from_disk(put(tmp_path) / "mine.json")
    assert result.task_name == "mine" and result.dataset_revision == "d1"
    assert result.scores["test"][0]["main_score"] == pytest.approx(2 / 3)


def test_what_mteb_wrote_is_read(tmp_path):
    folder = tmp_path / "org__b" / "r2"
    folder.mkdir(parents=True)
    (folder / "model_meta.json").write_text(json.dumps({"name": "org/b", "revision": "r2"}))
    content = {
        "task_name": "STS13",
        "dataset_revision": "x",
        "mteb_version": "2.0.0",
        "scores": {"test": [{"main_score": 0.25, "hf_subset": "default", "languages": ["eng-Latn"]}]},
        "evaluation_time": 1,
    }
    (folder / "STS13.json").write_text(json.dumps(content))
    (score,) = read_scores([tmp_path])[0].scores
    assert (score.task_type, score.metric, score.value, score.low) == ("STS", "main_score", 0.25, None)


def test_a_score_that_is_no_number_is_an_error_and_others_become_null(tmp_path):
    folder = put(tmp_path)
    assert json.loads((folder / "mine.json").read_text())["scores"]["test"][0]["ap"] is None
    with pytest.raises(DataError, match="mine, test/en: cosine_spearman is nan"):
        write_task(folder, record(float("nan")))


def test_the_difference_of_two_models_comes_from_disk(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.uniform(size=200)
    put(tmp_path, "org/a", base + 0.1)
    put(tmp_path, "org/b", base)
    put(tmp_path, "org/other_data", base, dataset_revision="d2")
    a, b, other = read_scores([tmp_path])
    (found,) = paired_intervals(a, b)
    assert found.interval.difference == pytest.approx(0.1) and found.interval.low == pytest.approx(0.1)
    assert paired_intervals(a, other) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"scores": 3}', '{"scores": {"test": [{}]}, "task_name": "mine"}'])
def test_a_broken_result_names_its_file(text, tmp_path):
    folder = put(tmp_path)
    (folder / "mine.json").write_text(text)
    with pytest.raises(DataError, match=r"mine\.json"):
        read_scores([tmp_path])


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(DataError, match="udever eval"):
        read_scores([tmp_path])


def test_a_kill_leaves_the_old_result_or_the_new(tmp_path, killed):
    folder = put(tmp_path)
    before = read_task(folder, "mine")

    def work():
        put(tmp_path, values=(0.0, 0.0, 1.0))

    for event in range(0, killed(lambda: put(tmp_path / "x"), 10**9) + 8, 3):
        killed(work, event)
        value = read_task(folder, "mine")["scores"]["test"][0]["main_score"]
        assert value in (before["scores"]["test"][0]["main_score"], pytest.approx(1 / 3))
