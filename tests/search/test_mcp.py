import json
import sys

import anyio
import pytest

from udever.errors import MissingExtra

TREE = {
    "src/a.py": "def parse_json(text):\n    return load(text)\n",
    "src/b.go": "package main\n\nfunc send(url string) {\n\tdial(url)\n}\n",
    "docs/guide.md": "# Guide\n\nHow to parse.\n",
}


@pytest.fixture
def indexed(tmp_path, put, decoders):
    """A folder indexed by a tiny real model."""
    from udever.embedder import Embedder
    from udever.search.locate import NAME, open_store
    from udever.search.update import IndexSettings, update_index

    folder = decoders("llama")
    tree = put(tmp_path / "tree", TREE)
    load = lambda name: Embedder.load(name, dtype="float32", device="cpu")  # noqa: E731
    update_index(open_store(tree / NAME), [tree], load, IndexSettings(str(folder)))
    return tree


def test_the_sdks_own_client_searches_over_stdio(indexed):
    from mcp import Client, StdioServerParameters

    told = {}

    async def talk():
        program = StdioServerParameters(
            command=sys.executable,
            args=["-m", "udever", "mcp", str(indexed), "--dtype", "float32", "--device", "cpu"],
            env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        async with Client(program) as client:
            told["tools"] = {tool.name: tool for tool in (await client.list_tools()).tools}
            calls = {
                "search": {"query": "parse json", "top_k": 2},
                "filtered": {"query": "send", "mode": "words", "paths": ["src/**"], "languages": ["go"]},
                "kind": {"query": "x", "kinds": ["method"]},
                "mode": {"query": "x", "mode": "hybrid"},
            }
            for name, arguments in calls.items():
                told[name] = await client.call_tool("search", arguments)
            told["read"] = await client.call_tool("read", {"path": "src/b.go", "first_line": 3, "last_line": 3})
            told["outside"] = await client.call_tool("read", {"path": "../../etc/passwd"})
            told["status"] = await client.call_tool("status", {})

    anyio.run(talk)
    assert set(told["tools"]) == {"search", "read", "status"}
    assert "best first" in told["tools"]["search"].description
    hits = told["search"].structured_content["result"]
    assert len(hits) == 2 and not told["search"].is_error
    assert {"id", "text", "source", "first_line", "score"} <= set(hits[0])
    assert [hit["id"] for hit in told["filtered"].structured_content["result"]] == ["src/b.go:3-5"]
    assert told["kind"].is_error and "expected one of function" in told["kind"].content[0].text
    assert told["mode"].is_error
    assert told["read"].structured_content["text"] == "func send(url string) {"
    assert told["outside"].is_error and "is not in the index" in told["outside"].content[0].text
    assert json.loads(told["status"].content[0].text)["num_files"] == 3


def test_embeddings_files_are_searched_and_have_no_lines_to_read(embedder):
    from udever.search.embeddings_file import Header
    from udever.search.in_memory import InMemory
    from udever.search.mcp import make_server
    from udever.search.searchable import Hit

    texts = ["parse json", "send a url"]
    hits = [Hit(0.0, str(row), text) for row, text in enumerate(texts)]
    header = Header(embedder.fingerprint, embedder.dimensions, "document")
    server = make_server(InMemory("v", header, hits, embedder.encode_document(texts)), lambda: embedder)
    assert [tool.name for tool in anyio.run(server.list_tools)] == ["search"]
    result = anyio.run(server.call_tool, "search", {"query": "parse", "top_k": 1, "mode": "meaning"})
    assert "parse json" in str(result)


def test_a_missing_sdk_is_named(monkeypatch):
    from udever.search.mcp import make_server

    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(MissingExtra, match=r"pip install 'udever\[mcp\]'"):
        make_server(None, None)
