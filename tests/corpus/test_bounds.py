"""A corpus file that is made to fill the memory costs its own row, or the rest of its file, and nothing else."""

import gzip
import subprocess
import sys

import pyarrow.parquet as pq


def test_a_huge_line_and_a_gzip_bomb_fail_alone_in_bounded_memory(tmp_path):
    corpus, output = tmp_path / "corpus", tmp_path / "vectors"
    corpus.mkdir()
    with (corpus / "lines.jsonl").open("wb") as file:
        file.write(b'{"text": "the row before"}\n{"text": "')
        for _ in range(25):
            file.write(b"a" * (8 << 20))
        file.write(b'"}\n{"text": "the row behind"}\n')
    member = gzip.compress(b" " * (16 << 20))  # 16 kB; gzip files may be joined
    with (corpus / "bomb.jsonl.gz").open("wb") as file:
        file.write(gzip.compress(b'{"text": "the row in front of the bomb"}\n'))
        for _ in range(20):
            file.write(member)
    (corpus / "plain.jsonl").write_text('{"text": "another file"}\n')
    files = [str(path) for path in sorted(corpus.iterdir())]
    command = [sys.executable, "-m", "udever", "embed", *files, "-m", "seedling", "--output", str(output)]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 4000000; exec "$@"', "bash", *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "3 rows failed" in done.stderr
    texts = [row["text"] for row in _rows(output / "shards")]
    assert sorted(texts) == ["another file", "the row before", "the row behind", "the row in front of the bomb"]
    reasons = [row["reason"] for row in pq.read_table(output / "_failed.parquet").to_pylist()]
    assert sum("larger than" in reason for reason in reasons) == 2, "the line, and the bomb's only line"
    assert sum("unpacks to more than" in reason for reason in reasons) == 1


def _rows(output):
    return [row for shard in sorted(output.rglob("*.parquet")) for row in pq.read_table(shard).to_pylist()]
