import runpy
from pathlib import Path

# One fake embedder for the three folders that need it; test folders are no packages to import from.
embedder = runpy.run_path(str(Path(__file__).parents[1] / "index" / "conftest.py"))["embedder"]
