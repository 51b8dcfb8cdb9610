"""The `killed` fixture itself, since every durability test rests on it."""


def test_killed_at_every_place_or_counted(killed, tmp_path):
    target = tmp_path / "file"

    def work():
        target.write_text("one")
        target.rename(tmp_path / "moved")

    assert killed(work, 0) is None
    assert not target.exists()
    assert killed(work, 1) is None
    assert target.read_text() == "one"
    assert killed(work, 10**9) == 2
