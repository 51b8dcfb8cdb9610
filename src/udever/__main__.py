"""`udever`, and `python -m udever`."""

import gc

from udever.processors import OthersLoad


def main() -> None:
    """Run the command line; while it is imported, what other processes do is looked at."""
    others = OthersLoad()
    from udever import cli

    try:
        cli.main(others)
    finally:
        gc.freeze()  # all of it ends with the process: it is not looked through for garbage once more


if __name__ == "__main__":
    main()
