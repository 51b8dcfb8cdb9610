"""A table of texts to a table of vectors, read with pandas and numpy.

Run: python docs/jobs/vectors.py [rows]. The texts are 20,000 lines of the docstrings of Python's own library.
"""

import ast
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy
import pandas

import udever

NUM_ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000


def lines_of_docstrings(limit: int) -> list[str]:
    """Distinct lines, in the order of the files."""
    lines: dict[str, None] = {}
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if not {"test", "tests", "site-packages"}.isdisjoint(file.parts):
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (said := ast.get_docstring(node)):
                lines.update((line.strip(), None) for line in said.split("\n") if len(line.strip()) > 20)
        if len(lines) >= limit:
            break
    return list(lines)[:limit]


texts = lines_of_docstrings(NUM_ROWS)
pandas.DataFrame({"id": [f"line{n}" for n in range(len(texts))], "text": texts}).to_parquet("lines.parquet")

command = [sys.executable, "-m", "udever"]
subprocess.run([*command, "embed", "lines.parquet", "-m", "seedling", "-o", "vectors"], check=True)
subprocess.run([*command, "audit", "vectors"], check=True)

# pandas: one row a text
table = pandas.read_parquet("vectors").set_index("id")
print(table[["text", "num_tokens", "truncated"]].head(3))

# numpy: the same vectors as one array, mapped from the disk
ids, vectors = udever.read_vectors("vectors")
print(vectors.shape, vectors.dtype)
assert numpy.allclose(numpy.stack(table.loc[ids[:100], "embedding"].to_list()), vectors[:100])

# The nearest neighbours of a row, and of a question
embedder = udever.Embedder.load("seedling")
question = embedder.encode_query("close the connection")
for vector in (vectors[0], question):
    nearest = (vectors @ vector).argsort()[::-1][:3]
    print(table.loc[[ids[row] for row in nearest], "text"].to_list())
