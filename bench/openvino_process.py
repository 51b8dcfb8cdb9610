"""Our end of `openvino_peer.py`: the process in the other environment, as a contender that takes its turn."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np

_PEER = Path(__file__).with_name("openvino_peer.py")


class NotSupportedError(Exception):
    """The peer cannot load or export the model."""


class OpenVinoProcess:
    """A model loaded by OpenVINO, waiting to be told to encode `texts`; a context manager that ends it.

    `vectors` are what it gives, `repaired` what had to be mended before it could export. Raises
    NotSupportedError where it cannot, RuntimeError where the process dies.
    """

    def __init__(
        self, python: str, folder: Path, texts: list[str], *, precision: str, threads: int, batch_size: int
    ) -> None:
        self._files = tempfile.TemporaryDirectory()
        place = Path(self._files.name)
        (place / "texts.json").write_text(json.dumps(texts))
        vectors = place / "vectors.npy"
        command = [python, str(_PEER), str(folder), str(place / "texts.json"), str(vectors)]
        command += ["--precision", precision, "--threads", str(threads), "--batch-size", str(batch_size)]
        self._log = place / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            ready = self._answer()
            if "error" in ready:
                raise NotSupportedError(ready["error"])
            self.repaired: str = ready["repaired"]
            self.vectors: np.ndarray = np.load(vectors)
        except BaseException:
            self.close()
            raise

    def encode(self) -> float:
        """Let it encode the texts once; seconds by its own clock."""
        assert self._process.stdin is not None
        self._process.stdin.write("encode\n")
        self._process.stdin.flush()
        return self._answer()["seconds"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = "\n".join(self._log.read_text().splitlines()[-5:])
            raise RuntimeError(f"the OpenVINO process ended (status {self._process.wait()}):\n{tail}")
        return json.loads(line)

    def close(self) -> None:
        """End the process and remove its files."""
        self._process.communicate()  # closes its input, at which it ends
        self._files.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
