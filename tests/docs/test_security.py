"""Every test that docs/security.md names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`((?:tests|bench)/[^`\s]*)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))


def test_the_page_names_tests():
    assert len(NAMED) > 30


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named):
    path, _, function = named.partition("::")
    assert (ROOT / path).exists()
    if function:
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")
