"""When Python looks for garbage, and when that is wasted."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Do not look for garbage inside the block.

    For imports, and for work that ends at once: what they make stays, and torch's or a store's hundreds of thousands of
    objects, looked through again and again while they are made, take a third of the seconds.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
