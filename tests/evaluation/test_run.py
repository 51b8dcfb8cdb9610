import json
from contextlib import contextmanager

import numpy as np
import pytest
from typer.testing import CliRunner

import udever
from udever.cli import app
from udever.errors import DataError, ModelError, RecipeError
from udever.evaluation.evaluate import Sources, folder_jobs, plan
from udever.evaluation.models_under_test import ModelOptions, ModelUnderTest, model_under_test
from udever.evaluation.results import read_items, read_scores
from udever.evaluation.run import run
from udever.evaluation.tasks import find_tasks
from udever.report.labels import Label, label_of


@pytest.fixture
def tasks(tmp_path, tiny):
    """A folder with one tiny task of every kind."""
    for kind in tiny.kinds:
        tiny.write(tmp_path / "tasks" / kind, kind)
    return tmp_path / "tasks"


@pytest.fixture
def words(mteb_model):
    """Candidates over a bag of words, counting how often they are loaded."""

    def make(key="k", **options):
        def load():
            make.loads += 1
            return mteb_model(**options)

        recipe = {"training": {"tuning": "bitfit"}}
        training = {"datasets": [{"kinds": {"symmetric": 9}, "languages": {"eng-Latn -> eng-Latn": 9}}]}
        return ModelUnderTest("words", key, load, frozenset(["sts", "PublicName"]), recipe, training)

    make.loads = 0
    return make


def result_of(outcome, task):
    return json.loads((outcome.folder / f"{task}.json").read_text())


def test_every_kind_is_scored_and_then_kept_without_loading(tasks, words, tmp_path, tiny):
    jobs = folder_jobs(find_tasks(tasks))
    (first,) = run([words()], jobs, tmp_path / "out")
    assert sorted(first.scored) == sorted(tiny.kinds) and not first.failed
    (second,) = run([words()], jobs, tmp_path / "out")
    assert sorted(second.kept) == sorted(tiny.kinds) and not second.scored
    assert words.loads == 1
    (model,) = read_scores([tmp_path / "out"])
    assert {score.task for score in model.scores} == set(tiny.kinds)
    assert {score.task for score in model.scores if score.trained_on} == {"sts"}
    assert label_of(model) == Label(train_language="eng-Latn", kind="symmetric", tuning="bitfit")
    assert all(read_items(first.folder, task) for task in tiny.kinds)
    assert result_of(first, "sts")["udever"]["environment"]["mteb"]


def test_what_a_model_says_when_it_is_loaded_that_it_was_trained_on_is_marked(tasks, mteb_model, tmp_path):
    """As with a hub name, whose card is not there before."""
    model = mteb_model()
    model.trained_on = frozenset(["sts"])
    jobs = [job for job in folder_jobs(find_tasks(tasks)) if job.name in ("sts", "reranking")]
    assert len(jobs) == 2
    (outcome,) = run([ModelUnderTest("words", None, lambda: model)], jobs, tmp_path)
    assert {job.name: result_of(outcome, job.name)["udever"]["trained_on"] for job in jobs} == {
        "sts": True,
        "reranking": False,
    }
    assert json.loads((outcome.folder / "model_meta.json").read_text())["udever"]["trained_on"] == ["sts"]


def test_a_long_task_says_how_far_it_is(tasks, words, tmp_path, monkeypatch):
    notes = []

    @contextmanager
    def bar(name, total, *, enabled=True):
        yield lambda steps=1, note="": notes.append(note)

    monkeypatch.setattr("udever.evaluation.mteb_model._STEP", 2)
    monkeypatch.setattr("udever.evaluation.run.progress_bar", bar)
    (job,) = (job for job in folder_jobs(find_tasks(tasks)) if job.name == "sts")
    run([words()], [job], tmp_path / "out")
    assert notes[:3] == ["sts", "sts, 2 texts", "sts, 4 texts"]


def test_a_run_is_the_same_every_time(tasks, words, tmp_path, tiny):
    jobs = folder_jobs(find_tasks(tasks))
    found = [run([words()], order, tmp_path / str(n))[0] for n, order in enumerate((jobs, jobs[::-1]))]
    for task in tiny.kinds:
        assert result_of(found[0], task)["scores"] == result_of(found[1], task)["scores"]


def test_a_stopped_run_goes_on_where_it_was(tasks, words, tmp_path, tiny):
    jobs = folder_jobs(find_tasks(tasks))
    run([words()], jobs[:3], tmp_path)
    (outcome,) = run([words()], jobs, tmp_path)
    assert outcome.kept == [job.name for job in jobs[:3]]
    assert outcome.scored == [job.name for job in jobs[3:]]


def test_changed_data_are_scored_again(tasks, words, tmp_path, tiny):
    run([words()], folder_jobs(find_tasks(tasks / "sts")), tmp_path)
    tiny.write(tasks / "sts", "sts", {"en": tiny.tables["sts"]["en"][:-1]})
    (outcome,) = run([words()], folder_jobs(find_tasks(tasks / "sts")), tmp_path)
    assert outcome.scored == ["sts"]


def test_another_release_of_mteb_scores_again(tasks, words, tmp_path, monkeypatch):
    jobs = folder_jobs(find_tasks(tasks / "sts"))
    run([words()], jobs, tmp_path)
    monkeypatch.setattr("udever.evaluation.run.mteb_version", lambda: "99")
    assert run([words()], jobs, tmp_path)[0].scored == ["sts"]


def test_one_that_fails_leaves_the_others(tasks, words, tmp_path, tiny):
    tiny.write(tasks / "bitext", "bitext", {"deu-eng": [{"sentence1": "a"}]})
    (outcome,) = run([words()], folder_jobs(find_tasks(tasks)), tmp_path)
    assert list(outcome.failed) == ["bitext"] and "no column 'sentence2'" in outcome.failed["bitext"]
    assert len(outcome.scored) == len(tiny.kinds) - 1
    assert not (outcome.folder / "bitext.json").exists()


def test_a_model_with_a_nan_fails_with_file_and_row(tasks, words, tmp_path):
    def spoiled(texts, role, prompt):
        return np.array([[np.nan] if text == "a 3" else [float(len(text))] for text in texts], dtype=np.float32)

    (outcome,) = run([words(embed=spoiled)], folder_jobs(find_tasks(tasks / "sts")), tmp_path)
    assert "tasks/sts: row" in outcome.failed["sts"] and "'a 3'" in outcome.failed["sts"]


def test_a_model_without_an_opinion_fails_instead_of_scoring_nan(tasks, words, tmp_path):
    alike = words(embed=lambda texts, role, prompt: np.ones((len(texts), 2), dtype=np.float32))
    with pytest.warns(match="constant"):
        (outcome,) = run([alike], folder_jobs(find_tasks(tasks / "sts")), tmp_path)
    assert "cosine_spearman is nan" in outcome.failed["sts"]


def test_bm25_is_left_out_where_vectors_are_wanted(tasks, tmp_path):
    from udever.evaluation.models_under_test import ModelOptions

    jobs = folder_jobs(find_tasks(tasks))
    for _ in range(2):
        (outcome,) = run([model_under_test("bm25", ModelOptions())], jobs, tmp_path)
        assert {*outcome.scored, *outcome.kept} == {"retrieval", "crosslingual_retrieval", "reranking"}
        assert len(outcome.skipped) == 5 and not outcome.failed
    assert not outcome.scored


def test_one_model_that_cannot_be_loaded_leaves_the_others(tasks, words, tmp_path):
    def broken():
        raise ModelError("no such thing")

    jobs = folder_jobs(find_tasks(tasks / "sts"))
    outcomes = run([ModelUnderTest("bad", None, broken), words()], jobs, tmp_path)
    assert outcomes[0].failed == {"model": "no such thing"} and outcomes[1].scored == ["sts"]
    with pytest.raises(ModelError, match="no such thing"):
        run([ModelUnderTest("bad", None, broken)], jobs, tmp_path)


def test_a_public_task_fails_offline_and_leaves_the_others(tasks, words, tmp_path):
    jobs = plan(Sources(data=(tasks / "sts",), mteb=("STS13",)), tmp_path)
    (outcome,) = run([words()], jobs, tmp_path)
    assert outcome.scored == ["sts"] and list(outcome.failed) == ["STS13"]


def test_a_public_task_is_run_by_mtebs_own_class(words, tmp_path, monkeypatch):
    import mteb
    from datasets import Dataset, DatasetDict

    rows = {"sentence1": ["a b", "c d", "e"], "sentence2": ["a b", "c e", "x"], "score": [5.0, 3.0, 0.0]}
    cls = type(mteb.get_task("STS13"))

    def load_data(self, **_):
        self.dataset = DatasetDict(test=Dataset.from_dict(rows))
        self.data_loaded = True

    monkeypatch.setattr(cls, "load_data", load_data)
    jobs = plan(Sources(mteb=("STS13",)), tmp_path)
    (outcome,) = run([words()], jobs, tmp_path)
    assert outcome.scored == ["STS13"]
    (score,) = read_scores([tmp_path])[0].scores
    assert (score.task_type, score.subset, score.languages) == ("STS", "default", ("eng-Latn",))
    assert score.value == pytest.approx(1)
    assert run([words()], plan(Sources(mteb=("STS13",)), tmp_path), tmp_path)[0].kept == ["STS13"]


def test_a_benchmark_is_its_tasks(tmp_path):
    names = [job.name for job in plan(Sources(mteb=("MTEB(eng, v1)",)), tmp_path)]
    assert {"STS12", "Banking77Classification", "CQADupstackTexRetrieval"} <= set(names)
    assert names == [job.name for job in plan(Sources(mteb=("MTEB(eng, v1)",)), tmp_path)]


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ({"mteb": ("STS1",)}, r"no task or benchmark 'STS1'; did you mean 'STS1\d'"),
        ({"suite": "univers"}, "no suite 'univers'; did you mean 'universal'"),
        ({"tasks": ("st",)}, "no task 'st'; did you mean 'sts'"),
        ({"tasks": ("12345",)}, "no task '12345'; there are"),
    ],
)
def test_unknown_names(sources, complaint, tasks, tmp_path):
    data = {} if "mteb" in sources else {"data": (tasks,)}
    with pytest.raises(RecipeError, match=complaint):
        plan(Sources(**data, **sources), tmp_path)


def test_two_tasks_of_one_name_are_refused(tasks, tmp_path):
    with pytest.raises(RecipeError, match="two of the tasks are called"):
        plan(Sources(data=(tasks, tasks / "sts")), tmp_path)


def test_overrides_replace_keys_and_must_name_a_task(tasks, tmp_path):
    path = tmp_path / "overrides.json"
    path.write_text('{"sts": {"main_score": "cosine_pearson"}}')
    (job,) = plan(Sources(data=(tasks / "sts",), overrides=path), tmp_path)
    assert job.make().metadata.main_score == "cosine_pearson"
    with pytest.raises(RecipeError, match="names 'sts', which is no task folder"):
        plan(Sources(data=(tasks / "bitext",), overrides=path), tmp_path)


def test_evaluate_takes_models_and_tasks_as_they_come(tasks, tmp_path):
    udever.evaluate("bm25", tasks / "retrieval", results=tmp_path / "out")
    lexical, chance = udever.evaluate(["bm25", "random"], [str(tasks / "retrieval")], results=str(tmp_path / "out"))
    assert (lexical.kept, chance.scored) == (["retrieval"], ["retrieval"])
    (score,) = chance.scores["retrieval"]
    assert 0 <= score.low <= score.value <= score.high <= 1 and score.metric == "ndcg_at_10"
    assert udever.evaluate("random", tasks / "retrieval", results=tmp_path / "out")[0].scores == chance.scores
    with pytest.raises(DataError, match="is not a folder"):
        udever.evaluate("bm25", "./nowhere", results=tmp_path / "out")
    with pytest.raises(RecipeError, match="no task or benchmark 'STS1'"):
        udever.evaluate("bm25", "STS1", results=tmp_path / "out")


def test_evaluate_takes_an_embedder(tasks, tmp_path):
    embedder = udever.Embedder.load("seedling")
    (outcome,) = udever.evaluate(
        embedder, tasks / "sts", results=tmp_path / "out", options=ModelOptions(name="org/mine")
    )
    (by_name,) = udever.evaluate("seedling", tasks / "sts", results=tmp_path / "out")
    assert outcome.name == "org/mine" and (outcome.scored, by_name.scored) == (["sts"], ["sts"])
    assert [score.value for score in outcome.scores["sts"]] == [score.value for score in by_name.scores["sts"]]


def test_the_command(tasks, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        return CliRunner().invoke(app, ["eval", *arguments, "-o", str(tmp_path / "out")], catch_exceptions=False)

    two = ("--task", "retrieval", "--task", "sts")
    found = call("-m", "random", "-m", "bm25", "--data", str(tasks), *two)
    assert found.exit_code == 0, found.output
    assert "ndcg_at_10" in found.output and "sts: left out" in found.output
    assert "2 were there" in call("-m", "random", "--data", str(tasks), *two).output
    tiny.write(tasks / "sts", "sts", {"en": [{"sentence1": "a", "sentence2": "b", "score": None}]})
    found = call("-m", "random", "--data", str(tasks), "--task", "sts", "--task", "bitext")
    assert found.exit_code == 1 and "sts: FAILED" in found.output and "row 0: score is missing" in found.output
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"STS": 3}')
    with pytest.raises(RecipeError, match="the prompt of 'STS' is 3"):
        call("-m", "random", "--data", str(tasks), "--prompts", str(prompts))
    known = ("sts", "STS13-query", "Retrieval-document", "symmetric", "reranking", "universal_code_search")
    prompts.write_text(json.dumps(dict.fromkeys(known, "a")))  # of tasks that are not asked for now, too
    assert call("-m", "random", "--data", str(tasks), "--task", "bitext", "--prompts", str(prompts)).exit_code == 0
    prompts.write_text(json.dumps({**dict.fromkeys(known, "a"), "Retreival": "e"}))
    with pytest.raises(RecipeError, match=r"a prompt for 'Retreival', which is no task .* did you mean 'Retrieval'"):
        call("-m", "random", "--data", str(tasks), "--prompts", str(prompts))
