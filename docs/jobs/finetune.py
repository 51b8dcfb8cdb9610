"""A CSV of questions and answers to a finetuned model, scored before and after.

Run: python docs/jobs/finetune.py [qa.csv]. Without a file it writes one, from the docstrings of Python's own library.
"""

import ast
import csv
import subprocess
import sys
import sysconfig
from pathlib import Path

from udever import Embedder


def write_example(path: Path, num_rows: int) -> None:
    """First lines of docstrings as questions, the functions they belong to as answers."""
    rows: dict[str, str] = {}
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.FunctionDef) and (said := ast.get_docstring(node)):
                rows[said.split("\n")[0]] = f"def {node.name}({ast.unparse(node.args)})"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("question", "answer"), *list(rows.items())[:num_rows]])


table = Path(sys.argv[1] if len(sys.argv) > 1 else "qa.csv")
if len(sys.argv) == 1:
    write_example(table, num_rows=1500)

subprocess.run([sys.executable, "-m", "udever", "adapt", str(table), "-o", "runs/qa"], check=True)

# What it printed compares the base, the new model and BM25 on rows that were held out; runs/qa/report.html has more
with table.open(newline="", encoding="utf-8") as handle:
    answers = list(dict.fromkeys(row["answer"] for row in csv.DictReader(handle)))
for name in ("seedling", "runs/qa/model"):
    embedder = Embedder.load(name)
    found = embedder.similarity(embedder.encode_query(["remove a file"]), embedder.encode_document(answers))[0]
    print(name, [answers[row] for row in found.argsort()[::-1][:3]])
