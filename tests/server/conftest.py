"""A real server in a thread, over a tiny model, with an index and a classifier that are plain functions."""

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from udever.errors import DataError
from udever.search import Hit
from udever.server import Classifier, IndexPort, MapPoints
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
    """Exact search over three texts, filtered by language."""
    vectors = embedder.encode_document([text for text, _, _ in TEXTS.values()])
    hits = [
        Hit(0.0, name, text, name.split(":")[0], 1, 1 + text.count("\n"), kind=kind, language=language)
        for name, (text, language, kind) in TEXTS.items()
    ]

    def search(query, embedding, top_k=10, *, mode, filters):
        scores = np.zeros(len(hits)) if embedding is None else vectors @ embedding
        if "Latin" in filters.languages:
            raise DataError("language is 'Latin'; expected another")
        order = [row for row in np.argsort(-scores) if not filters.languages or hits[row].language in filters.languages]
        return [replace(hits[row], score=float(scores[row])) for row in order[:top_k]]

    def points(limit):
        xy = vectors[:limit, :2]
        languages = [language for _, language, _ in TEXTS.values()][:limit]
        return MapPoints(xy, list(TEXTS)[:limit], {"language": languages}, np.array([[1, 2]], dtype=np.int32))

    def texts(ids):
        return {hit.id: hit for hit in hits if hit.id in ids}

    return IndexPort(search=search, name="three texts", count=lambda: 3, points=points, texts=texts)


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
