"""What README, docs and the other pages for people hold: `udever` commands, blocks of Python and of TOML.

Commands stand in fenced and indented blocks, loops' bodies too, and in running text.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "recipes").rglob("README.md")),
]


class Command(NamedTuple):
    """The arguments after `udever`; `inline` for a mention in running text, which may leave arguments out."""

    arguments: list[str]
    inline: bool


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a language, in their order."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info.strip() == language]


def blocks(page: Path) -> Iterator[tuple[str, bool]]:
    """Fenced and indented blocks, and mentions in running text (True)."""
    text = page.read_text(encoding="utf-8")
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        fence = token.type == "fence" and token.info.strip() in ("", "sh", "bash", "console")
        if token.type == "code_block" or fence:
            yield token.content, False
        for child in token.children or ():
            if child.type == "code_inline" and re.match(r"udever [a-z-]+ \S", child.content):
                yield child.content, True


def commands(page: Path) -> list[Command]:
    """The commands of a page; comments and what follows a pipe are left out."""
    found = []
    for block, inline in blocks(page):
        for name, first in re.findall(r"for (\w+) in (\S+)", block):  # a loop stands for its first round
            block = block.replace(f"${name}", first)
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"(\$ )?\s*(\S*/)?(udever|torchrun .*-m udever|python -m udever)\s", line):
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            start = next(i for i, word in enumerate(words) if Path(word).name == "udever") + 1
            end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&", "&", ";")), len(words))
            arguments = [word.replace("...", "") for word in words[start:end] if word != "..."]
            found.append(Command(arguments, inline))
    return found
