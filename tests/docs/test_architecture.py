"""docs/architecture.md names what stands, and the walks stay as short as they are."""

import ast
import importlib
import importlib.util
import re

import pytest

from tests.docs.commands import ROOT

_spec = importlib.util.spec_from_file_location("walks", ROOT / "dev" / "walks.py")
walks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(walks)

MOST = {"load": 19, "embed": 16, "gradient": 22, "hits": 11}
"""Files of a walk, those that only check too; what makes one longer moves a wall or says here why.

A gradient's has `training/table_rows.py`: rows of the table are brought up to date when a batch reads them. It and
loading have `storage.py`, which says whether files were replaced meanwhile.
"""


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_is_there(page):
    named = re.findall(r"`([\w/.]+\.py)`", (ROOT / page).read_text())
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.py")}
    absent = [name for name in named if not (ROOT / name).exists() and not any(f"/{name}" in path for path in own)]
    assert len(named) > 20 and not absent


def test_what_an_addition_touches_stands_in_the_file_named():
    rows = re.findall(
        r"^\| `(?P<file>[\w/.]+)` \| (?P<what>.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    absent = [
        (file, name)
        for file, what in rows
        for name in re.findall(r"`(\w+)[`(]", what)
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ]
    assert len(rows) > 20 and not absent


def test_no_walk_gets_longer(tmp_path):
    for name, thing in walks.things(tmp_path).items():
        thing()
        files = min((walks.walk(thing) for _ in range(3)), key=len)  # an index reads its manifest again by the clock
        assert len(files) <= MOST[name], f"{name} passes {', '.join(files)}"


def python_shown():
    """(file, code) of each block of Python in README and the docs, and of each script there."""
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield page, block
    for path in (*(ROOT / "docs").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")):
        yield path, path.read_text()


def test_recipes_and_docs_use_the_front_door_and_documented_extension_points_alone():
    import udever

    rows = re.findall(r"^\| `(udever[\w.]*)` \| (.+?) \|", (ROOT / "docs/python.md").read_text(), re.MULTILINE)
    named = {(module, name) for module, names in rows for name in re.findall(r"`(\w+)`", names)}
    for module, name in named:
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
    allowed = named | {("udever", name) for name in udever.__all__}
    used = {
        (path.name, node.module, alias.name)
        for path, code in python_shown()
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "udever"
        for alias in node.names
    }
    assert len(named) > 20 and len(used) > 20
    assert sorted(use for use in used if use[1:] not in allowed) == []
