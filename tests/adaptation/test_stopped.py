"""`adapt` stopped or killed anywhere and resumed ends as one that was never stopped, and shows nothing half-trained."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from udever.adaptation import AdaptSettings, adapt, run_folder
from udever.errors import ModelError, OutputError
from udever.evaluation.results import read_scores
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
    assert "stopped, with a checkpoint" in printed
    assert not output.exists()
    assert any(Path(path).name.startswith("step-") for path in run_folder(output).iterdir())


def test_a_base_that_is_none_leaves_nothing(project, tmp_path):
    with pytest.raises(ModelError):
        run(project, tmp_path / "out", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []
