"""Retrieval on held-out pairs: BM25, the model before and after, and how sure the difference is."""

from udever.evaluate.bootstrap import Interval, paired_bootstrap
from udever.evaluate.compare import Scores, score_bm25, score_embedder
from udever.evaluate.encoder import MtebModel, as_mteb
from udever.evaluate.held_out import RetrievalSet, Subset
from udever.evaluate.metrics import METRICS, score_ranking
from udever.evaluate.report import Extras, write_report
from udever.evaluate.results import Results

__all__ = [
    "METRICS",
    "Extras",
    "Interval",
    "MtebModel",
    "Results",
    "RetrievalSet",
    "Scores",
    "Subset",
    "as_mteb",
    "paired_bootstrap",
    "score_bm25",
    "score_embedder",
    "score_ranking",
    "write_report",
]
