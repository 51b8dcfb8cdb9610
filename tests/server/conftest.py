"""A real server in a thread, over a tiny model, with an index and a classifier that are plain functions."""

import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from udever.search.embeddings_file import Header
from udever.search.in_memory import InMemory
from udever.search.points import MapPoints
from udever.search.searchable import Hit
from udever.server import Classifier
from udever.server.auth import Keys
from udever.server.run import make_server
from udever.server.service import Service
from udever.server.settings import limits

TEXTS = {
    "a.py:1-2": ("def add(a, b):\n    return a + b", "python-Code", "function"),
    "b.md:1-1": ("What is the sum of two numbers?", "eng-Latn", "section"),
    "c.md:1-1": ("Was ist die Summe zweier Zahlen?", "deu-Latn", "section"),
}


def make_index(embedder):
    """Three texts in memory."""
    vectors = embedder.encode_document([text for text, _, _ in TEXTS.values()])
    hits = [
        Hit(0.0, name, text, name.split(":")[0], 1, 1 + text.count("\n"), kind=kind, language=language)
        for name, (text, language, kind) in TEXTS.items()
    ]
    header = Header(embedder.fingerprint, embedder.dimensions, "document")
    return InMemory("three texts", header, hits, vectors)


def map_of(limit):
    """The first texts on a line, the last two joined."""
    xy = np.arange(6, dtype=np.float32).reshape(3, 2)[:limit]
    languages = [language for _, language, _ in TEXTS.values()][:limit]
    return MapPoints(xy, list(TEXTS)[:limit], {"language": languages}, np.array([[1, 2]], dtype=np.int32))


def predict(embeddings):
    """Probabilities that follow from the first number of a vector alone."""
    first = 1 / (1 + np.exp(-8 * embeddings[:, 0].astype(np.float64)))
    return np.stack([first, 1 - first], axis=1)


CLASSIFIER = Classifier(
    predict=predict,
    decide=lambda probabilities: probabilities >= 0.5,
    classes=("harsh", "kind"),
    harmless=frozenset({"kind"}),
    name="tone",
)


@contextmanager
def listening(service, keys=None, **options):
    """`service` behind a socket of this machine; yields its address. All it took is answered at the end."""
    server = make_server(service, keys=keys, **options)
    server.config.timeout_graceful_shutdown = 20
    socket_ = socket.create_server(("127.0.0.1", 0))
    port = socket_.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([socket_],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve(embedders):
    """serve(family="qwen3", keys=None, **limits) -> a context manager that yields (address, service)."""

    @contextmanager
    def run(family="qwen3", *, keys=None, changes=None, page=None, prepare=lambda service: None, **bounds):
        embedder = embedders(family, **(changes or {}))
        service = Service(
            embedder,
            name="tiny",
            aliases=["also-tiny"],
            limits=limits(**{"body_bytes": 1 << 20, **bounds}),
            index=make_index(embedder),
            classifier=CLASSIFIER,
        )
        service.points = map_of
        prepare(service)
        options = {} if page is None else {"page": page}
        with listening(service, None if keys is None else Keys(keys), **options) as address:
            yield address, service

    return run


@pytest.fixture(scope="session")
def server(serve):
    """(address, service) of a server that many tests share."""
    with serve() as running:
        yield running


@pytest.fixture
def client(server):
    """An HTTP client of the shared server."""
    with httpx.Client(base_url=server[0], timeout=30) as client:
        yield client


@pytest.fixture
def open_page(browser):
    """open_page(url, **context options) -> a page; at the end, no complaints and no requests to elsewhere."""
    seen = SimpleNamespace(complaints=[], requests=[], allowed=())
    contexts = []

    def run(url, *, ready=None, allowed=(), **options):
        context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 800}, "color_scheme": "light", **options}
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        seen.allowed += (*allowed,)
        page = context.new_page()
        page.on("request", lambda request: seen.requests.append((url, request.url)))
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (seen.complaints.append(dialog.message), dialog.dismiss()))
        page.goto(url)
        if ready:
            page.wait_for_selector(ready)
        return page

    yield run
    for context in contexts:
        context.close()
    homes = [(home.split("#")[0].rstrip("/"), wanted) for home, wanted in seen.requests]
    elsewhere = [wanted for home, wanted in homes if not wanted.startswith((home, "data:"))]
    assert elsewhere == []
    assert [text for text in seen.complaints if not any(part in text for part in seen.allowed)] == []
