"""Ray itself, on this machine: two workers, one of which dies. In a process of its own: Ray forks and warns."""

import json
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from udever.corpus import RayRunner, audit
from udever.corpus.inputs import InputRow
from udever.corpus.scan import SPOOL_SCHEMA, Block, hash_bytes
from udever.corpus.step import digest_of
from udever.corpus.workers import Worker
from udever.errors import OutputError, RecipeError

SCRIPT = textwrap.dedent("""
    import os, runpy, signal, sys
    from udever.corpus import RayRunner, Reading, run_job

    fake, path, output, marker = sys.argv[1:]

    def load():
        class Dying(runpy.run_path(fake)["FakeStep"]):
            def run(self, prepared, tick):
                if "text number 33 " + "word " * 9 in prepared and not os.path.exists(marker):
                    open(marker, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().run(prepared, tick)
        return Dying(failing=["text number 44 " + "word " * 8])

    reading = Reading([path], window_rows=10)
    summary = run_job(load(), reading, output, runner=RayRunner(load, workers=2), show_progress=False)
    print('first', summary.num_texts, summary.num_tokens, summary.num_failed)
    again = run_job(load(), reading, output, runner=RayRunner(load, workers=2), show_progress=False)
    print('again', again.num_texts, again.num_shards_made)
""")


def test_a_worker_that_dies_is_replaced_and_the_result_is_that_of_one_process(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    fake = str(Path(__file__).with_name("conftest.py"))
    marker = tmp_path / "died"
    command = [sys.executable, "-c", SCRIPT, fake, str(path), str(tmp_path / "out"), str(marker)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert marker.exists(), "no worker died"
    step = fake_step(failing=["text number 44 " + "word " * 8])
    summary = corpus.run(step, path, tmp_path / "here")
    told = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert told["first"] == [str(summary.num_texts), str(summary.num_tokens), str(summary.num_failed)]
    assert told["again"] == ["0", "0"]
    assert summary.num_failed == 1
    assert corpus.read(tmp_path / "out") == corpus.read(tmp_path / "here")
    names = [sorted(file.name for file in (tmp_path / name / "shards").iterdir()) for name in ("out", "here")]
    assert names[0] == names[1]
    assert audit(tmp_path / "out").findings == [
        f"1 rows have no result; {tmp_path / 'out' / '_failed.parquet'} says which and why"
    ]


def test_numbers_of_workers_that_make_no_sense(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    with pytest.raises(RecipeError, match="workers is 0, threads 1"):
        corpus.run(fake_step(), path, tmp_path / "out", runner=RayRunner(fake_step, workers=0))


@pytest.fixture
def one_window(fake_step, tmp_path):
    """What a worker is told of one spooled window of a job."""
    block = Block()
    for number in range(3):
        block.add(InputRow("a", number, f"i{number}", f"text {number}", "a"), hash_bytes(b"%d" % number), 6)
    spool = tmp_path / "0.arrow"
    with pa.OSFile(str(spool), "wb") as out, pa.ipc.new_file(out, SPOOL_SCHEMA) as writer:
        writer.write_table(block.table())
    np.save(tmp_path / "0.offsets.npy", np.arange(3, dtype=np.int32))
    values = {"job": 0, "spool": str(spool), "folder": str(tmp_path), "number": 0, "key": "a" * 32}
    return values | {"num_rows": 3, "num_texts": 3, "alone": True}


def test_a_worker_does_a_window_once(one_window, fake_step, tmp_path):
    worker = Worker(fake_step, digest_of(fake_step()).hex(), 1)
    assert worker(one_window) == {"job": 0, "num_tokens": 6, "error": ""}
    assert list(tmp_path.glob(f"00000000-{'a' * 32}-*.parquet"))
    assert worker(one_window)["num_tokens"] == 0  # asked again after it died while answering


def test_a_worker_with_another_model_refuses(one_window, fake_step):
    answer = Worker(lambda: fake_step(fingerprint="other"), digest_of(fake_step()).hex(), 1)(one_window)
    kind, message = json.loads(answer["error"])
    assert kind == "ContractError" and "a worker has another model, precision or udever than the driver" in message


def test_a_window_that_takes_its_workers_along_is_given_up(one_window, fake_step):
    class Dying(fake_step):
        def run(self, prepared, tick):
            raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            Worker(Dying, digest_of(fake_step()).hex(), 1)(one_window)
    kind, message = json.loads(Worker(Dying, digest_of(fake_step()).hex(), 1)(one_window)["error"])
    assert kind == "OutputError" and "4 workers died over one window" in message


def test_an_address_where_nobody_answers(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        for scheme in ("", "ray://"):
            address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
            with pytest.raises(OutputError, match=f"no Ray at {address}: .*refused"):
                corpus.run(fake_step(), path, tmp_path / "out", runner=RayRunner(fake_step, address))
