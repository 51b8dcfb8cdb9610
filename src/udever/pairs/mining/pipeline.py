"""`mine`: files -> rows -> without duplicates -> train and held out."""

import sysconfig
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from udever.errors import DataError, RecipeError
from udever.pairs.mining import translations
from udever.pairs.mining.dedupe import dedupe, family
from udever.pairs.mining.docs import doc_pieces
from udever.pairs.mining.licences import folder_licence, header_licence
from udever.pairs.mining.pieces import Piece, code_pieces, documented, searched
from udever.pairs.mining.study import study
from udever.pairs.mining.within import MINERS, Repository
from udever.pairs.schema import Pair
from udever.pairs.settings import BY_TEXT
from udever.pairs.split import Shares, keep_to_choose, split_pairs, split_table
from udever.progress import progress_bar
from udever.source.history import changes
from udever.source.languages import named_language
from udever.source.pages import SPLITTERS
from udever.source.reading import read_found
from udever.source.tree_code import GRAMMARS
from udever.source.walk import FoundFile, walk
from udever.text.grouping import Held

ASKED = ("code", "docs", "translations")
"""Kinds whose anchors are questions: of held-out files they are asked, and trained on nowhere."""

KINDS = (*ASKED, *MINERS)

USUAL_KINDS = tuple(kind for kind in KINDS if kind not in ("tests", "commits"))
"""What is mined where nobody says: names of tests brought nothing, messages of commits harm (`bench/adapt.py`)."""

_PYTHON = (".py", ".pyw")
_CODE, _PAGES = (*_PYTHON, *GRAMMARS), tuple(SPLITTERS)
_SUFFIXES = {
    "code": _CODE,
    "docs": _PAGES,
    "translations": (".po", ".mo"),
    **dict.fromkeys(MINERS, _CODE),
    "mentions": (*_CODE, *_PAGES),
}
_WHAT = {
    "code": "documented functions",
    "docs": "sections with a heading",
    "translations": "translated messages",
    "names": "functions with names of several words",
    "comments": "comments inside functions",
    "mentions": "sentences that name a function",
    "tests": "tests that name what they call",
    "messages": "messages of exceptions and logs",
    "commits": "messages of commits that changed a function",
}

STANDARD_LIBRARY_EXCLUDE = (
    "site-packages/",
    "dist-packages/",
    "test/",
    "tests/",
    "idle_test/",
    "config-*/",
)
"""What `mine(..., exclude=)` leaves out of it: installed packages, tests, build settings."""


@dataclass(frozen=True)
class Mined:
    """What `mine` found.

    `pairs` are without duplicates and sorted by source, each with its split. `skipped` counts what was left
    out or cut by reason: "file: ...", "folder: ...", "row: ...", "text: ...". `num_files` is how many files
    of a wanted type were opened. `corpus` is all that a search of the files may find, near copies of the texts that
    held-out rows ask for left out. `kinds` are those of the pairs, in their order.
    """

    pairs: list[Pair]
    skipped: dict[str, int]
    num_files: int
    corpus: list[Piece] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs there are of each kind."""
        return dict(Counter(self.kinds))


def _read(
    file: FoundFile, wanted: Collection[str], language: str | None, skipped: Counter[str]
) -> tuple[list[Piece], list[Pair], str | None]:
    """The pieces of a file and the questions that they answer, or the pairs of a catalogue; and its own licence."""
    suffix = file.path.suffix.lower()
    if suffix in _SUFFIXES["translations"]:
        return [], list(translations.translation_pairs(file.path, file.source, skipped)), None
    text = read_found(file, skipped)
    if text is None:
        return [], [], None
    if suffix in _CODE:
        pieces = code_pieces(text, file.source, suffix, skipped)
    else:
        pieces = doc_pieces(text, file.source, suffix, language, skipped)
    is_wanted = ("code" if suffix in _CODE else "docs") in wanted
    found = [documented(piece, language, skipped) for piece in pieces] if is_wanted else []
    return pieces, [pair for pair in found if pair is not None], header_licence(text)


def _nothing(paths: Sequence[Path], kinds: Sequence[str], skipped: Counter[str]) -> DataError:
    sought: dict[tuple[str, ...], list[str]] = {}
    for suffix in dict.fromkeys(suffix for kind in kinds for suffix in _SUFFIXES[kind]):
        sought.setdefault(tuple(_WHAT[kind] for kind in kinds if suffix in _SUFFIXES[kind]), []).append(suffix)
    looked_for = "; ".join(f"{', '.join(whats)} in {' '.join(suffixes)}" for whats, suffixes in sought.items())
    counts = ", ".join(f"{reason}: {count}" for reason, count in skipped.most_common()) or "nothing"
    return DataError(
        f"no pairs found in {', '.join(map(str, paths))}; looked for {looked_for}; skipped {counts}; "
        "give a folder that holds some, or name a skipped folder itself"
    )


def _check(paths: Sequence[Path], kinds: Collection[str]) -> list[str]:
    if not paths:
        raise DataError("no paths given; give a file or folder at least")
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        given = ", ".join(map(repr, unknown)) or "none"
        raise RecipeError(f"kinds to mine: {given}; expected some of {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in kinds]


@dataclass(frozen=True)
class Beside:
    """A person's own rows, split already by `unit`, that are asked for and learned from beside what is mined."""

    pairs: Sequence[Pair] = ()
    unit: str = BY_TEXT


@dataclass(frozen=True)
class Mining:
    """What is mined and how it is divided, as `mine` has it."""

    kinds: Collection[str]
    exclude: Sequence[str]
    shares: Shares
    seed: int
    language: str | None


def mine(
    paths: Sequence[Path],
    *,
    kinds: Collection[str] = USUAL_KINDS,
    exclude: Sequence[str] = (),
    held_out: float | Shares = 0.1,
    seed: int = 0,
    language: str | None = None,
    show_progress: bool = True,
) -> Mined:
    """Return training pairs from the files under `paths`, the same for the same files, options and seed.

    `exclude` holds patterns as in a .gitignore, matched below each path. `held_out` is the share of files
    kept for evaluation, in [0, 1), or `Shares`, which also say what is kept to choose by. `language` is what prose is
    written in (`eng-Latn`); null where not given. Raises DataError for a missing path and where nothing is found,
    RecipeError for an unknown kind or a share out of range.
    """
    shares = held_out if isinstance(held_out, Shares) else Shares(held_out)
    return mine_beside(paths, Mining(kinds, exclude, shares, seed, language), Beside(), show_progress=show_progress)


def mine_beside(paths: Sequence[Path], mining: Mining, beside: Beside, *, show_progress: bool = True) -> Mined:
    """As `mine`, together with rows of a person's own: what either holds out is in no pair, and in no other text."""
    paths = [Path(path) for path in paths]
    shares, seed = mining.shares, mining.seed
    wanted = _check(paths, mining.kinds)
    language = None if mining.language is None else named_language(mining.language)
    skipped: Counter[str] = Counter()
    suffixes = {suffix for kind in wanted for suffix in _SUFFIXES[kind]}
    files = list(walk(paths, suffixes, mining.exclude, skipped))
    licences = {root: folder_licence(root) for root in {file.root for file in files}}
    pairs: list[Pair] = []
    pieces: list[Piece] = []
    with progress_bar("Mining", len(files), enabled=show_progress) as advance:
        for file in files:
            found, rows, licence = _read(file, wanted, language, skipped)
            pieces += found
            pairs += [replace(pair, licence=licence or licences[file.root]) for pair in rows]
            advance(note=file.source)
    asked = split_pairs(dedupe(pairs, skipped), shares.held_out, seed, skipped)
    asked = _with(beside, asked, shares.held_out, seed, skipped)
    asked = keep_to_choose(asked, shares, partial(_again, beside=beside, seed=seed + 1, skipped=skipped))
    history = changes(files, _CODE, skipped) if "commits" in wanted else []
    asked, studied = study([k for k in wanted if k in MINERS], Repository(pieces, history), asked, skipped)
    if not pairs and not studied:
        raise _nothing(paths, wanted, skipped)
    kinds_of = [*map(family, asked), *(kind for kind, _ in studied)]
    corpus = _corpus(pieces, asked)
    return Mined([*asked, *(p for _, p in studied)], dict(sorted(skipped.items())), len(files), corpus, kinds_of)


def _with(beside: Beside, mined: list[Pair], share: float, seed: int, skipped: Counter[str]) -> list[Pair]:
    """Both together, less the rows of either that would then be on both sides."""
    return split_table([*beside.pairs, *mined], share, seed, skipped, beside.unit) if beside.pairs else mined


def _again(pairs: list[Pair], share: float, *, beside: Beside, seed: int, skipped: Counter[str]) -> list[Pair]:
    """Divide both once more, mined rows by file and those beside by their unit; these stay whole where it is one."""
    keys = {(pair.anchor, pair.positive) for pair in beside.pairs}
    mined = split_pairs([p for p in pairs if (p.anchor, p.positive) not in keys], share, seed, skipped)
    own = [pair for pair in pairs if (pair.anchor, pair.positive) in keys]
    with suppress(DataError):
        own = split_table(own, share, seed, skipped, beside.unit)
    return _with(replace(beside, pairs=own), mined, share, seed, skipped)


def _corpus(pieces: Sequence[Piece], pairs: Sequence[Pair]) -> list[Piece]:
    """The pieces that a search may find, but for copies of held-out answers: they would be right and not count.

    A copy is near by its text, or is another version of the answer, by its place in a file of the same name.
    """
    answers = {pair.positive for pair in pairs if pair.split != "train" and pair.kind == "asymmetric"}
    found = searched(pieces)
    copies = Held(answers).repeated([piece.text for piece in found]) if answers else [False] * len(found)
    places = {_place(piece) for piece in pieces if piece.text in answers}
    versions = [piece.doc is not None and _place(piece) in places for piece in found]
    return [
        piece
        for piece, copy, version in zip(found, copies, versions, strict=True)
        if piece.text in answers or not (copy or version)
    ]


def _place(piece: Piece) -> tuple[str | None, ...]:
    """What two versions of one piece share: the name of its file, its own, and what documents it."""
    return (PurePosixPath(piece.source).name, piece.parent, piece.name, piece.doc)


def standard_library() -> Path:
    """Return the folder of the interpreter's own library, also from within a virtual environment."""
    return Path(sysconfig.get_path("stdlib")).resolve()
