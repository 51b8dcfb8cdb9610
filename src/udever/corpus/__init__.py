"""Corpora of any size into folders of embeddings or labels, resumable and provably whole."""

from udever.corpus.audit import Again, Audit, audit
from udever.corpus.embedding import EmbedStep, VectorStep
from udever.corpus.folder import check_output, check_place
from udever.corpus.inputs import find_sources
from udever.corpus.job import Reading, Summary, run_job
from udever.corpus.on_ray import RayRunner, runner_for
from udever.corpus.rows import Columns, read_records
from udever.corpus.step import Output, Step

__all__ = [
    "Again",
    "Audit",
    "Columns",
    "EmbedStep",
    "Output",
    "RayRunner",
    "Reading",
    "Step",
    "Summary",
    "VectorStep",
    "audit",
    "check_output",
    "check_place",
    "find_sources",
    "read_records",
    "run_job",
    "runner_for",
]
