"""A page of another site cannot use a server without keys, under any name; in a real browser too."""

import httpx
import pytest

from udever.errors import RecipeError
from udever.server.guard import LOCAL, allowed_hosts

SEARCH = {"query": "sum"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:80"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:8000"}, 421),
        ({"Host": "localhost@evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "[::1].evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
    ],
)
def test_only_this_machines_names_and_its_own_page_are_answered(headers, status, client):
    for answer in (
        client.post("/v1/search", json=SEARCH, headers=headers),
        client.get("/v1/models", headers=headers),
        client.get("/", headers=headers),
    ):
        assert answer.status_code == status
        if status != 200:
            assert answer.json()["error"]["code"] in ("host_not_allowed", "origin_not_allowed")


def test_two_hosts_are_none(server):
    import socket

    host, port = server[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 4")


def test_names_given_by_hand_and_keys_open(serve):
    with serve(keys=["key-number-1"]) as (address, _):
        key = {"Authorization": "Bearer key-number-1", "Host": "search.example.com"}
        assert httpx.get(f"{address}/v1/models", headers=key).status_code == 200
        assert httpx.get(f"{address}/v1/models", headers={"Host": "search.example.com"}).status_code == 401


def test_what_may_be_allowed():
    assert allowed_hosts("127.0.0.1") == LOCAL == allowed_hosts("0.0.0.0")
    assert allowed_hosts("::", ["Search.example.com"]) == LOCAL | {"search.example.com"}
    assert allowed_hosts("192.168.1.5") == LOCAL | {"192.168.1.5"}
    assert allowed_hosts("fd00::5") == LOCAL | {"[fd00::5]"}
    for wrong in ("", "a:80", "http://a", "*", "a b"):
        with pytest.raises(RecipeError, match="bare name"):
            allowed_hosts("127.0.0.1", [wrong])


def test_head_is_answered_like_get_without_a_body(client):
    for path in ("/", "/health", "/v1/models", "/page/app.js", "/metrics"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
    assert client.head("/v1/embeddings").status_code == 405
    assert client.head("/nowhere").status_code == 404


@pytest.fixture(scope="module")
def evil():
    """A browser for which evil.example is this machine: what DNS rebinding comes to."""
    import shutil

    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium on the path: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    arguments.append("--host-resolver-rules=MAP evil.example 127.0.0.1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


ASK = """async (address) => {
  const headers = { "Content-Type": "application/json" };
  try {
    const answer = await fetch(address + "/v1/search", { method: "POST", headers, body: '{"query": "sum"}' });
    return [answer.status, await answer.text()];
  } catch (error) { return [0, String(error)]; }
}"""


def test_a_rebound_name_reads_nothing_in_a_browser(evil, server):
    address = server[0].replace("127.0.0.1", "evil.example")
    page = evil.new_page()
    answer = page.goto(address)
    assert answer is not None and answer.status == 421
    status, text = page.evaluate(ASK, address)  # of the same origin, as the browser sees it
    assert status == 421 and "a.py:1-2" not in text
    status, text = page.evaluate(ASK, server[0])  # of another origin
    assert status == 0 and "a.py:1-2" not in text
    page.close()
    own = evil.new_page()
    own.goto(server[0])
    status, text = own.evaluate(ASK, server[0])
    assert status == 200 and "a.py:1-2" in text
    own.close()
