"""`adapt` stopped or killed anywhere and resumed ends as one that was never stopped, and shows nothing half-trained."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from udever.adaptation import AdaptSettings, adapt, run_folder
from udever.adaptation.folder import begin, begun_in, clear, write_gathered
from udever.errors import ModelError, OutputError
from udever.evaluation.results import read_scores
from udever.pairs.mining import Mined
from udever.pairs.schema import Pair
from udever.training.grad_cache import Stepper
from udever.training.recipe import TrainingSettings

SETTINGS = TrainingSettings(tuning="full", batch_size=8, epochs=9, max_steps=4, learning_rate=3e-3, precision="float32")


def run(project, output, base, **options):
    settings = AdaptSettings(training=SETTINGS, held_out=0.25, max_length=48, **options.pop("settings", {}))
    return adapt([project], output, settings, base=str(base), **options)


def weights(output):
    scores = {model.name: model.scores for model in read_scores([output / "results"])}
    return (output / "model" / "model.safetensors").read_bytes(), scores


@pytest.fixture(scope="module")
def whole(project, base, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "out"
    assert run(project, output, base) is not None
    assert sorted(path.name for path in output.parent.iterdir()) == ["out"]
    return weights(output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_a_checkpoint_and_no_model(project, base, whole, tmp_path, monkeypatch, number):
    plain, seen = Stepper.accumulate, []

    def interrupted(self, batch):
        seen.append(batch.number)
        if len(seen) == 2:
            os.kill(os.getpid(), number)
        return plain(self, batch)

    output = tmp_path / "out"
    monkeypatch.setattr(Stepper, "accumulate", interrupted)
    assert run(project, output, base) is None
    monkeypatch.undo()
    assert not output.exists()
    assert (run_folder(output) / "step-00000002").is_dir()
    with pytest.raises(OutputError, match="--resume, or begin anew with --restart"):
        run(project, output, base)
    with pytest.raises(OutputError, match="started with other options"):
        run(project, output, base, resume=True, settings={"max_queries": 9})
    assert run(project, output, base, resume=True) is not None
    assert weights(output) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_killed_anywhere_and_resumed_is_never_killed(project, base, whole, tmp_path, killed):
    places = killed(lambda: run(project, tmp_path / "out-0", base, resume=True), 10**9)
    for number in range(1, 5):
        output = tmp_path / f"out-{number}"
        assert killed(lambda output=output: run(project, output, base, resume=True), int(number / 5 * places)) is None
        assert not output.exists()
        assert killed(lambda output=output: run(project, output, base, resume=True), 10**9) is not None
        assert weights(output) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out-{number}" for number in range(5)]


def test_the_command_exits_with_130_and_resumes(project, base, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "udever", "adapt", str(project), "-o", str(output), "--base", str(base)]
    command += ["--held-out", "0.25", "--epochs", "2000", "--tuning", "full"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    log = run_folder(output) / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped; go on with the same command and --resume" in printed
    assert not output.exists()
    assert any(Path(path).name.startswith("step-") for path in run_folder(output).iterdir())


def test_a_base_that_is_none_leaves_nothing(project, tmp_path):
    with pytest.raises(ModelError):
        run(project, tmp_path / "out", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def mined(*kinds):
    pairs = [Pair(f"how to do {kind} {number}", f"def {kind}_{number}()") for number, kind in enumerate(kinds)]
    return Mined(pairs, {}, 1, [], list(kinds))


def test_what_a_restarted_run_mined_is_not_mixed_with_what_was_there(tmp_path):
    begin({"kinds": "all"}, mined("code", "code", "names"), 1.0, tmp_path)
    begin({"kinds": "code"}, mined("code", "code"), 1.0, tmp_path)
    found, _ = begun_in({"kinds": "code"}, tmp_path)
    assert found.kinds == ["code"] * 2 == [pair.anchor.split()[3] for pair in found.pairs]
    write_gathered(mined("code", "code", "code", "names"), tmp_path)
    with pytest.raises(OutputError, match="it has 4 pairs and the kinds of 2; start over with --restart"):
        begun_in({"kinds": "code"}, tmp_path)


def test_only_what_a_run_wrote_is_removed(tmp_path):
    begin({"kinds": "all"}, mined("code", "names"), 1.0, tmp_path / "kept")
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    clear(tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["notes.txt"]
    (tmp_path / "kept" / "pairs.parquet").write_text("mine")
    with pytest.raises(OutputError, match=r"pairs\.parquet was not written by a run of udever"):
        begin({"kinds": "all"}, mined("code"), 1.0, tmp_path / "kept")
    assert (tmp_path / "kept" / "pairs.parquet").read_text() == "mine"


def test_a_restart_killed_anywhere_leaves_one_run_or_none(tmp_path, killed):
    def restarted(folder):
        begin({"kinds": "all"}, mined("code", "names", "names"), 1.0, folder)
        return lambda: begin({"kinds": "code"}, mined("code", "code"), 2.0, folder)

    folder = tmp_path / "counted"
    for number in range(killed(restarted(folder), 10**9)):
        folder = tmp_path / str(number)
        assert killed(restarted(folder), number) is None
        if (folder / "adapt.json").is_file():
            asked = json.loads((folder / "adapt.json").read_text())["asked"]
            found, _ = begun_in(asked, folder)
            assert found.kinds == {"all": ["code", "names", "names"], "code": ["code", "code"]}[asked["kinds"]]
            assert [pair.anchor.split()[3] for pair in found.pairs] == found.kinds


@pytest.mark.parametrize("command", [("adapt", "x"), ("demo",)])
@pytest.mark.parametrize("restart", [False, True])
def test_a_stopped_run_says_how_to_go_on(command, restart, udever, monkeypatch):
    monkeypatch.setattr("udever.adaptation.adapt", lambda *_, **__: None)
    code, told, _ = udever(*command, "-o", "elsewhere", "--base", "fresh", *(["--restart"] * restart))
    instead = " instead of --restart" if restart else ""
    assert (code, told) == (130, f"stopped; go on with the same command and --resume{instead}\n")


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "place", ["attempts.load_base", "attempts.train", "scores.choose", "scores.score_held_out", "job.write_output"]
)
def test_ctrl_c_anywhere_behind_the_mining_says_how_to_go_on(place, project, base, tmp_path, udever, monkeypatch):
    command = ["adapt", project, "-o", tmp_path / "out", "--base", base, "--held-out", "0.25", "--epochs", "1"]
    command += ["--negatives", "1"] * (place == "attempts.load_base")
    with monkeypatch.context() as patched:
        patched.setattr(f"udever.adaptation.{place}", interrupted)
        code, out, _ = udever(*command)
    assert code == 130 and out.endswith("stopped; go on with the same command and --resume\n")
    assert udever(*command, "--resume")[0] == 0 and (tmp_path / "out" / "report.html").is_file()


def test_ctrl_c_before_training_says_to_begin_again(project, tmp_path, udever, monkeypatch):
    monkeypatch.setattr("udever.adaptation.gathered.gather", interrupted)
    for command in (["adapt", project], ["demo"]):
        code, out, _ = udever(*command, "-o", tmp_path / "out")
        assert (code, out) == (130, "stopped before training; give the same command again\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_killed_says_what_is_taken_over(project, base, tmp_path, udever, monkeypatch):
    output = tmp_path / "out"
    kept = run_folder(output)
    command = ["adapt", project, "-o", output, "--base", base, "--held-out", "0.25", "--epochs", "1"]

    def said(*options, at="job.train_all"):
        """The first line of a run that is killed there: nothing is cleaned up."""
        with monkeypatch.context() as patched:
            patched.setattr(f"udever.adaptation.{at}", lambda *_, **__: sys.exit(9))
            code, out, error = udever(*command, *options)
        assert code == 9, error
        return out.splitlines()[0]

    assert said("--resume") == f"there is no run to go on with in {kept}: it begins anew"
    anew = f"the run in {kept} was stopped before its first checkpoint and begins anew; --resume takes its pairs over"
    assert said() == anew
    assert "training pairs" in said("--restart")
    before = (
        "going on with the run in {}: its pairs are taken over; there is no checkpoint yet, so training begins anew"
    )
    assert said("--resume", at="attempts.train") == before.format(kept)
    assert said("--resume", at="job._finished") == before.format(kept)
    both = f"going on with the run in {kept}: its pairs and its training up to the last checkpoint are taken over"
    assert said("--resume", at="job._finished") == both
    code, out, error = udever(*command, "--resume")
    assert code == 0 and out.splitlines()[0] == both, error
    assert "training pairs" in udever(*command)[1].splitlines()[0]


def test_checkpoints_of_another_run_are_not_taken_for_its_own(project, base, tmp_path, udever):
    recipe = tmp_path / "recipe.toml"
    (tmp_path / "pairs.jsonl").write_text("".join(f'{{"anchor": "a {n}", "positive": "b {n}"}}\n' for n in range(20)))
    settings = f'[training]\nmax_steps = 1\nbatch_size = 8\n[output]\nfolder = "{tmp_path}/out"\n'
    recipe.write_text(f'[model]\nbase = "{base}"\n[data]\npairs = ["{tmp_path}/pairs.jsonl"]\n{settings}')
    code, _, error = udever("train", recipe)
    assert code == 0, error
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    code, _, error = udever("adapt", project, "-o", tmp_path / "out", "--base", base, "--resume")
    assert code == 2 and error.count("\n") == 1, error
    assert "out-checkpoints holds checkpoints that no run of adapt has left; begin anew with --restart" in error
    assert (run_folder(tmp_path / "out") / "step-00000001").is_dir()
