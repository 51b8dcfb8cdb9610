"""Files as streams of bytes, unpacked as far as what they hold is believable."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from udever.data.formats import Packing
from udever.files import open_regular

MAX_RATIO = 200
"""Packed text is a third to a fiftieth of its size; what expands further is made to."""
FREE_BYTES = 256 << 20
"""As much is unpacked in any case: it does no harm."""


class Expands(Exception):
    """A packed file holds more than MAX_RATIO times its size."""


class _Bounded(io.RawIOBase):
    """What `unpacked` gives, as far as it is not more than MAX_RATIO times what was read of `packed`."""

    def __init__(self, packed: BinaryIO, unpacked: Any) -> None:
        self._packed, self._unpacked = packed, unpacked
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._unpacked.read(len(buffer))
        except zlib.error as error:
            raise OSError(str(error)) from error
        self._given += len(data)
        if self._given > FREE_BYTES and self._given > MAX_RATIO * self._packed.tell():
            raise Expands(f"the file unpacks to more than {MAX_RATIO} times its size; the rest of it is left out")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._packed.close()
        super().close()


def open_bytes(path: Path, packing: Packing, root: Path | None = None) -> io.BufferedReader:
    """The bytes of a regular file, unpacked; reading on raises Expands where it is packed too well to be true."""
    file = open_regular(path, root=root)
    if not packing:
        return file  # pyright: ignore[reportReturnType]
    if packing == "gz":
        unpacked: Any = gzip.GzipFile(fileobj=file, mode="rb")
    else:
        unpacked = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    return io.BufferedReader(_Bounded(file, unpacked), 1 << 16)
