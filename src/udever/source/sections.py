"""The sections of a document, as every reader of pages collects them."""

from dataclasses import dataclass, field

from udever.source.text import one_line


@dataclass(frozen=True)
class TextSection:
    """What stands under one heading. `path` holds the headings from the page's top down; () before the first.

    `first_line` is the heading's own line, `last_line` the one before the next heading, both from 1; `lines` are
    these lines of the file, blank where something is left out; of HTML there are none.
    """

    path: tuple[str, ...]
    text: str
    first_line: int
    last_line: int
    lines: tuple[str, ...] = ()

    @property
    def title_path(self) -> str:
        """The headings in one line: `Guide > Install > Linux`."""
        return " > ".join(title for title in self.path if title)


@dataclass
class Outline:
    """Collects sections: a heading closes the section before it, text goes to the open one."""

    sections: list[TextSection] = field(default_factory=list)
    path: list[tuple[int, str]] = field(default_factory=list)
    text: str = ""
    lines: tuple[str, ...] = ()
    line: int = 1

    def heading(self, level: int, title: str, line: int) -> None:
        """Open the section under a heading of `level` at `line`."""
        self.close(line - 1)
        while self.path and self.path[-1][0] >= level:
            self.path.pop()
        self.path.append((level, one_line(title)))
        self.line = line

    def close(self, last_line: int) -> None:
        """End the open section at `last_line`."""
        text = self.text.strip()
        if self.path or text:
            path = tuple(title for _, title in self.path)
            self.sections.append(TextSection(path, text, self.line, max(self.line, last_line), self.lines))
        self.text, self.lines = "", ()
