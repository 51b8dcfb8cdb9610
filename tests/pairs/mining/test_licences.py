import pytest

from udever.pairs.mining.licences import folder_licence, header_licence, identify

MIT = "Permission is hereby granted, free of charge, to any person\nobtaining a copy of this software"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MIT, "MIT"),
        (
            "Apache License\n  Version 2.0, January 2004\n TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND",
            "Apache-2.0",
        ),
        (
            "Redistribution and use in source and binary forms, with or without\nmodification, are",
            "BSD-2-Clause",
        ),
        ("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007", "GPL-3.0"),
        ("All rights reserved. See the GNU General Public License version 3.", None),
    ],
)
def test_common_licences_are_known_by_their_text(text, expected):
    assert identify(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# SPDX-License-Identifier: Apache-2.0\nx", "Apache-2.0"),
        ("/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */", "GPL-2.0 WITH Linux-syscall-note"),
        ("# (SPDX-License-Identifier: MIT)", "MIT"),
        ("# MIT\n" + " " * 3000 + "SPDX-License-Identifier: MIT", None),
    ],
)
def test_a_header_line_is_read(text, expected):
    assert header_licence(text) == expected


def test_the_repository_lends_its_licence_and_nothing_above_it_does(tmp_path):
    (tmp_path / "repo/src").mkdir(parents=True)
    (tmp_path / "LICENSE").write_text(MIT)
    assert folder_licence(tmp_path / "repo/src") is None
    (tmp_path / "repo/LICENSE").write_text(MIT)
    assert folder_licence(tmp_path / "repo/src") is None
    (tmp_path / "repo/.git").mkdir()
    assert folder_licence(tmp_path / "repo/src") == "MIT"
