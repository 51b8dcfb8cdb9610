"""The analyses of the paper over results of any models: figures, tables, and the page that holds them."""

from udever.report.labels import Label, read_labels
from udever.report.page import ReportOptions, write_benchmark_report
from udever.report.parallel import Parallel, read_parallel
from udever.report.plane import Plane, make_plane, read_plane, write_plane
from udever.report.shares import Shares, bloom_shares, read_shares

__all__ = [
    "Label",
    "Parallel",
    "Plane",
    "ReportOptions",
    "Shares",
    "bloom_shares",
    "make_plane",
    "read_labels",
    "read_parallel",
    "read_plane",
    "read_shares",
    "write_benchmark_report",
    "write_plane",
]
