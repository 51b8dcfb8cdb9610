"""The command line: each command parses its arguments and calls one function."""

from udever.cli import adapt, classify, corpus, evaluate, index, map, merge, negatives, overlap, report, serve, train  # noqa: F401 # importing a module registers its commands
from udever.cli.app import app, main

__all__ = ["app", "main"]
