"""Hooks of the docs site: README as its first page, files that docs link to, the references, the notebook.

Pages made here have no file in docs/, so nothing is written twice and nothing can be out of date.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")
"""The address in a Markdown link, without its anchor; addresses with a scheme do not match."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made here, then every file of the repository that a page links to."""
    made = {
        "index.md": lambda: (ROOT / "README.md").read_text("utf-8"),
        "command-line.md": _command_line,
        "reference.md": _python,
        "notebook.md": lambda: _notebook(ROOT / "docs/notebook.ipynb"),
    }
    for name, write in made.items():
        files.append(File.generated(config, name, content=write()))
    reached = [file for file in files if file.is_documentation_page()]
    for page in reached:  # grows while it is walked
        for target in _linked(page):
            if files.get_file_from_path(place := _place(target)) is None:
                new = File.generated(config, place, abs_src_path=str(ROOT / target))
                files.append(new)
                reached += [new] if new.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between files of the repository become links between pages of the site."""
    here = posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = _target(page.file, match[1])
        return match[1] if target is None else posixpath.relpath(_place(target), here or ".")

    return LINK.sub(moved, markdown)


def _linked(file: File) -> Iterator[str]:
    targets = (_target(file, link) for link in LINK.findall(file.content_string))
    return (target for target in targets if target is not None)


def _target(file: File, link: str) -> str | None:
    """The repository's file that a link leads to, below its root; None where there is none."""
    if file.src_uri == "index.md":
        source = "README.md"
    else:
        source = file.src_uri.removeprefix("repository/") if _outside(file) else f"docs/{file.src_uri}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return path if (ROOT / path).is_file() else None


def _outside(file: File) -> bool:
    return file.src_uri.startswith("repository/")


def _place(target: str) -> str:
    """Where a file of the repository lies in the site."""
    if target == "README.md":
        return "index.md"
    if target == "docs/notebook.ipynb":
        return "notebook.md"
    return target.removeprefix("docs/") if target.startswith("docs/") else f"repository/{target}"


def _command_line() -> str:
    import typer.cli

    from udever.cli import app

    command = typer.main.get_command(app)
    text = typer.cli.get_docs_for_click(obj=command, ctx=typer.Context(command), name="udever")
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)  # cut short there; each has its section below
    return text.replace("# `udever`", "# Command line", 1)


def _python() -> str:
    import udever

    names = sorted(udever.__all__, key=lambda name: (name.endswith(("Error", "Warning")), name.lower()))
    return "# Python\n\n" + "\n\n".join(f"::: udever.{name}" for name in names)


def _notebook(path: Path) -> str:
    """Its cells, and what they printed."""
    parts = ["The file: `docs/notebook.ipynb`. A test runs it top to bottom."]
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    parts[0], parts[1] = parts[1], parts[0]  # the title first
    return "\n\n".join(parts)
