"""The main job: from a person's own files to an embedder for them, with the table that shows what it is worth.

Mine pairs or read tables of them, write a recipe, train by it and, where there is time, by others; choose by
development questions; score the held-out ones over all that the files hold, before and after, with BM25 and beside it,
and write everything into one folder:

    pairs.parquet   every pair that asks something, with its split
    studied.parquet pairs that are learned from alone, where there are some
    model/          the embedder (`Embedder.load`), with its recipe
    held_out/       the held-out pairs as tasks, for `udever eval --data`
    results/        the scores of every row of the table, as `udever eval` writes them
    report.html     the table, and what lies behind it

The folder appears whole at the end. Until then the run lives in a folder of its own beside it, with the pairs, what
was asked for, the log, the checkpoints and the model; a run that was stopped goes on there.
"""

from udever.adaptation.folder import run_folder
from udever.adaptation.job import adapt
from udever.adaptation.plan import plan_adaptation
from udever.adaptation.settings import AdaptSettings, default_training, demo_of

__all__ = ["AdaptSettings", "adapt", "default_training", "demo_of", "plan_adaptation", "run_folder"]
