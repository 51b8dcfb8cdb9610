"""The SPDX name of a file's licence, where the file or its repository states one plainly."""

import re
from pathlib import Path

from udever.errors import FileRefused
from udever.files import read_regular
from udever.source.ignored import repository

_NAMES = (
    "LICENSE",
    "LICENCE",
    "LICENSE.txt",
    "LICENSE.md",
    "LICENCE.txt",
    "LICENCE.md",
    "COPYING",
    "LICENSE.rst",
)
_MAX_BYTES = 1_000_000
_HEADER_CHARS = 2_000
_HEADER = re.compile(
    r"SPDX-License-Identifier:[ \t]*\(?([A-Za-z0-9.+-]+(?:[ \t]+(?:AND|OR|WITH)[ \t]+[A-Za-z0-9.+-]+)*)"
)

# A licence is known by sentences that only it has; the first row of which every pattern occurs decides.
_BSD = r"redistribution and use in source and binary forms, with or without modification"
_TEXTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("AGPL-3.0", (r"^\W*gnu affero general public license version 3",)),
    ("LGPL-3.0", (r"^\W*gnu lesser general public license version 3",)),
    ("LGPL-2.1", (r"^\W*gnu lesser general public license version 2\.1",)),
    ("GPL-3.0", (r"^\W*gnu general public license version 3",)),
    ("GPL-2.0", (r"^\W*gnu general public license version 2",)),
    ("Python-2.0", (r"python software foundation license version 2", r"beopen\.com license agreement")),
    ("Apache-2.0", (r"apache license,? version 2\.0", r"terms and conditions for use, reproduction")),
    ("MPL-2.0", (r"mozilla public license,? version 2\.0",)),
    ("BSD-3-Clause", (_BSD, r"neither the name of|the names? of .{1,200} may not be used to endorse")),
    ("BSD-2-Clause", (_BSD,)),
    ("MIT", (r"permission is hereby granted, free of charge, to any person obtaining a copy",)),
    (
        "ISC",
        (r"permission to use, copy, modify, and(?:/or)? distribute this software for any purpose with or",),
    ),
    ("Unlicense", (r"this is free and unencumbered software released into the public domain",)),
)


def identify(text: str) -> str | None:
    """Return the SPDX name of a licence's full text, None where it is not one of the common ones."""
    flat = re.sub(r"\s+", " ", text).strip().lower()
    for name, patterns in _TEXTS:
        if all(re.search(pattern, flat) for pattern in patterns):
            return name
    return None


def folder_licence(root: Path) -> str | None:
    """Return the licence of the nearest licence file at `root` or above it, up to its repository's root."""
    if not root.is_dir():
        root = root.parent
    top = repository(root) or root
    for folder in (root, *root.parents):
        for name in _NAMES:
            path = folder / name
            try:
                return identify(read_regular(path, root=top, max_bytes=_MAX_BYTES).decode("utf-8", "replace"))
            except FileRefused:
                continue
        if folder == top:
            return None
    return None


def header_licence(text: str) -> str | None:
    """Return what the `SPDX-License-Identifier:` line near the top of a file says, None without one."""
    match = _HEADER.search(text[:_HEADER_CHARS])
    return match[1] if match else None
