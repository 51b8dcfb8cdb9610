"""The command line: each command parses its arguments and calls one function."""

from udever.cli import (  # noqa: F401 # importing a module registers its commands
    adapt,
    classify,
    corpus,
    evaluate,
    export,
    index,
    map,
    merge,
    negatives,
    overlap,
    push,
    quantize,
    report,
    serve,
    train,
)
from udever.cli.app import app, main

__all__ = ["app", "main"]
