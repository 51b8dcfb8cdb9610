"""The `udever` commands that stand in README and docs: fenced and indented blocks, loops' bodies too."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[str]:
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "code_block" or (
            token.type == "fence" and token.info.strip() in ("", "sh", "bash", "console")
        ):
            yield token.content
        for child in token.children or ():
            if child.type == "code_inline" and re.match(r"udever [a-z-]+ \S", child.content):
                yield child.content
    for row in re.findall(r"^\| `(udever [a-z-]+ [^`]+)`", page.read_text(encoding="utf-8"), re.M):
        yield row


def commands(page: Path) -> list[list[str]]:
    """The arguments after `udever`, one list a command; comments and what follows a pipe are left out."""
    found = []
    for block in blocks(page):
        for name, first in re.findall(r"for (\w+) in (\S+)", block):  # a loop stands for its first round
            block = block.replace(f"${name}", first)
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"(\$ )?\s*(\S*/)?(udever|torchrun .*-m udever|python -m udever)\s", line):
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            start = next(i for i, word in enumerate(words) if Path(word).name == "udever") + 1
            end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&", "&", ";")), len(words))
            found.append([word.replace("...", "") for word in words[start:end] if word != "..."])
    return found
