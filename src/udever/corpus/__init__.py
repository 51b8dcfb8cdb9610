"""Corpora of any size into folders of embeddings or labels, resumable and provably whole."""

from udever.corpus.audit import Again, Audit, audit
from udever.corpus.folder import check_output, check_place
from udever.corpus.inputs import Columns, find_sources, read_records
from udever.corpus.job import Reading, Summary, run_job
from udever.corpus.on_ray import RayRunner, runner_for
from udever.corpus.steps import EmbedStep, Output, Step, VectorStep
from udever.corpus.workers import ProcessRunner

__all__ = [
    "Again",
    "Audit",
    "Columns",
    "EmbedStep",
    "Output",
    "ProcessRunner",
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
