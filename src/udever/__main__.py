"""`python -m udever`."""

from udever.cli import main

main()
