"""`udever`, and `python -m udever`."""

from udever.processors import OthersLoad


def main() -> None:
    """Run the command line; while it is imported, what other processes do is looked at."""
    others = OthersLoad()
    from udever import cli

    cli.main(others)


if __name__ == "__main__":
    main()
