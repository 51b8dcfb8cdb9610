"""A model in a process of its own, which gets ready while this process opens what is to be searched.

Importing torch and loading a model takes as long as importing and opening a store; a command that asks one question
does both at once. The other process reads requests, a JSON object a line, and answers each with another.
"""

import gc
import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from udever import errors
from udever.errors import UdeverError
from udever.terminal import quiet_transformers

if TYPE_CHECKING:
    import numpy as np

    from udever.embedder import Embedder
    from udever.model.contract import RoleName
    from udever.options import SymmetricOptions

_START = "import sys; sys.path[:] = {path!r}; from udever.model_process import answer; answer()"


class ModelProcess:
    """Stands for an embedder where a query is to be embedded and its vector space to be known.

    `load` names the model and returns at once; whatever is asked for then waits until it is there, and raises what
    `Embedder.load` raises. Where the process cannot be had, this one loads the model.
    """

    def __init__(self, process: "subprocess.Popen[str] | None") -> None:
        self._process = process
        self._asked: list[tuple[str, str, str]] = []
        self._loaded: dict[str, Any] | None = None
        self._here: Embedder | None = None

    @classmethod
    @contextmanager
    def begin(cls, *, enabled: bool = True) -> Iterator[Self]:
        """Start the process, which ends with the block; there is none where torch is loaded here, or not `enabled`."""
        process = None
        if enabled and "torch" not in sys.modules:
            # -P: a torch.py in the folder that is searched is none of ours
            command = [sys.executable, "-P", "-c", _START.format(path=sys.path)]
            with suppress(OSError):
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
                )
        try:
            yield cls(process)
        finally:
            if process is not None:
                process.kill()
                process.communicate()

    def load(self, name: str, dtype: str, device: str) -> None:
        """Take this model; the one named last counts."""
        asked = (name, dtype, device)
        if self._asked[-1:] != [asked]:
            self._asked.append(asked)
            self._send({"load": asked})

    @property
    def name(self) -> str:
        """What the model was named."""
        return self._asked[-1][0]

    @property
    def fingerprint(self) -> str:
        """As `Embedder.fingerprint`."""
        return self._state()["fingerprint"]

    @property
    def precision(self) -> str:
        """As `Embedder.precision`."""
        return self._state()["precision"]

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: "RoleName | None" = None,
        instruction: str | None = None,
        truncate_dim: int | None = None,
    ) -> "np.ndarray":
        """As `Embedder.encode`."""
        import numpy as np

        self._state()
        options: SymmetricOptions = {
            "prompt_name": prompt_name,
            "instruction": instruction,
            "truncate_dim": truncate_dim,
        }
        if self._here is not None:
            return self._here.encode(texts, **options)
        self._send({"encode": {"texts": list(texts), **options}})
        reply = self._receive()
        if reply is None:
            raise errors.ModelError(f"the process that held {self.name} has ended; run the command again")
        _raise(reply)
        return np.array(reply["vectors"], np.float32)

    def _state(self) -> dict[str, Any]:
        if self._loaded is None:
            reply: dict[str, Any] | None = None
            for _ in self._asked:  # the last is the one that counts
                reply = self._receive()
            if reply is None:
                self._here = load_quietly(*self._asked[-1])
                reply = {"fingerprint": self._here.fingerprint, "precision": self._here.precision, "warnings": []}
            _raise(reply)
            self._loaded = reply
        return self._loaded

    def _send(self, request: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # it has ended: told by what is received
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()

    def _receive(self) -> dict[str, Any] | None:
        """The next answer; None where there is none to come."""
        if self._process is None or self._process.stdout is None:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None


def load_quietly(name: str, dtype: str = "auto", device: str = "auto") -> "Embedder":
    """As `Embedder.load`, without what transformers would write to the terminal."""
    from udever.embedder import Embedder

    quiet_transformers()
    return Embedder.load(name, dtype=dtype, device=device)


def _raise(reply: dict[str, Any]) -> None:
    for message in reply["warnings"]:
        warnings.warn(message, stacklevel=3)
    if "error" in reply:
        raise getattr(errors, reply["kind"], UdeverError)(reply["error"])


def answer() -> None:
    """Load and embed as standard input asks, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks ends this process
    replies, sys.stdout = sys.stdout, sys.stderr  # nothing that others print is an answer
    gc.disable()  # of what this short life makes nearly all stays, and looking it through takes a third of its seconds
    quiet_transformers()
    import udever.embedder  # noqa: F401 # before the first request is there

    embedder: Embedder | None = None
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, Any] = {}
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("default")
            try:
                if "load" in request:
                    embedder = load_quietly(*request["load"])
                    reply |= {"fingerprint": embedder.fingerprint, "precision": embedder.precision}
                else:
                    assert embedder is not None
                    reply["vectors"] = embedder.encode(**request["encode"]).tolist()
            except UdeverError as error:
                reply |= {"error": str(error), "kind": type(error).__name__}
        reply["warnings"] = [str(one.message) for one in seen if issubclass(one.category, UserWarning)]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
