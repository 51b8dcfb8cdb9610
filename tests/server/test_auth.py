import httpx
import pytest

from udever.errors import DataError
from udever.server.auth import ENVIRONMENT, Keys, read_keys
from udever.server.settings import limits


def test_only_the_keys_open():
    keys = Keys(["key-number-1", "key-number-2"])
    for given in ("Bearer key-number-1", "bearer key-number-2", "Bearer  key-number-1 "):
        assert keys.admit(given)
    for given in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer key-number-",
        "Bearer key-number-11",
        "Basic key-number-1",
        "key-number-1",
        "Bearer \udcff\udcfe",
        "Bearer KEY-NUMBER-1",
    ):
        assert not keys.admit(given)


def test_no_key_is_kept_in_the_clear():
    keys = Keys(["key-number-1"])
    assert "key-number-1" not in repr(vars(keys))


def test_every_key_is_compared_whatever_came_before(monkeypatch):
    seen = []
    monkeypatch.setattr("udever.server.auth.hmac.compare_digest", lambda a, b: seen.append(len(b)) or a == b)
    keys = Keys([f"key-number-{number}" for number in range(5)])
    for given in ("Bearer key-number-0", "Bearer wrong", None):
        seen.clear()
        keys.admit(given)
        assert seen == [32] * 5


def test_a_file_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert read_keys(None) is None
    monkeypatch.setenv(ENVIRONMENT, "from-environment-1, from-environment-2")
    assert len(read_keys(None)) == 2
    assert read_keys(None).admit("Bearer from-environment-2")
    path = tmp_path / "keys"
    path.write_text("\ufeff# keys\nfrom-the-file-1 # of one\n\n")
    path.chmod(0o600)
    assert len(read_keys(path)) == 1
    assert read_keys(path).admit("Bearer from-the-file-1")
    assert not read_keys(path).admit("Bearer from-environment-1")


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"", 0o600, "no key"),
        (b"# nothing\n", 0o600, "no key"),
        (b"short\n", 0o600, "key 1"),
        (b"good-enough-1\nhas blanks in it\n", 0o600, "key 2"),
        ("schlüssel-eins".encode(), 0o600, "key 1"),
        (b"\xff\xfe\x00", 0o600, "UTF-8"),
        (b"good-enough-1\n", 0o666, "chmod"),
    ],
)
def test_a_doubtful_file_is_refused_and_no_key_is_shown(content, mode, says, tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(DataError, match=says) as refused:
        read_keys(path)
    assert "good-enough" not in str(refused.value)
    assert "blanks in it" not in str(refused.value)
    with pytest.raises(DataError, match="cannot read"):
        read_keys(tmp_path / "missing")


def test_an_empty_environment_variable_is_no_open_server(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, " , ")
    with pytest.raises(DataError, match="no key"):
        read_keys(None)


def test_every_endpoint_of_the_interface_asks_for_a_key(serve):
    with serve(keys=["key-number-1"]) as (address, _), httpx.Client(base_url=address) as client:
        paths = client.get("/openapi.json").json()["paths"]
        guarded = [(path, method) for path in paths if path.startswith(("/v1", "/v2")) for method in paths[path]]
        assert len(guarded) >= 12
        for path, method in guarded:
            for headers in ({}, {"Authorization": "Bearer wrong-key"}):
                answer = client.request(method, path.replace("{model}", "tiny"), headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/models", headers={"Authorization": "Bearer key-number-1"}).status_code == 200
        assert client.get("/health").status_code == 200


def test_limits_refuse_nonsense():
    assert limits(timeout_s=None, batch_tokens=7).batch_tokens == 7
    with pytest.raises(DataError, match="truncate"):
        limits(truncate="start")
    with pytest.raises(DataError, match="timeout_s"):
        limits(timeout_s=float("nan"))


def test_a_file_that_others_can_read_is_warned_of(tmp_path):
    path = tmp_path / "keys"
    path.write_text("good-enough-1\n")
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="chmod go-r") as told:
        assert len(read_keys(path)) == 1
    assert "good-enough" not in str(told[0].message)
    path.chmod(0o600)
    assert len(read_keys(path)) == 1  # warnings are errors here
