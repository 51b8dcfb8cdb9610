"""Corpora of any size into folders of embeddings or labels, resumable and provably whole."""

from udever.corpus.audit import Again, audit
from udever.corpus.folder import check_place
from udever.corpus.inputs import Columns, check_named, check_split, find_sources, read_records
from udever.corpus.job import JobSummary, Reading, run_job
from udever.corpus.on_ray import RayRunner, runner_for
from udever.corpus.step import EmbedStep, Output, VectorStep
from udever.corpus.workers import ProcessRunner

__all__ = [
    "Again",
    "Columns",
    "EmbedStep",
    "JobSummary",
    "Output",
    "ProcessRunner",
    "RayRunner",
    "Reading",
    "VectorStep",
    "audit",
    "check_named",
    "check_place",
    "check_split",
    "find_sources",
    "read_records",
    "run_job",
    "runner_for",
]
