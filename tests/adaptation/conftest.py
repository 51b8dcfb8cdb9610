"""What the tests of `adapt` share: folders of documented functions, and a tiny base."""

import pytest

VERBS = ["copy", "parse", "split", "read", "sort", "hash", "open", "join"]
NOUNS = ["tree", "date", "line", "key"]


@pytest.fixture(scope="session")
def documented(tmp_path_factory):
    """`documented(verbs, nouns)`: a folder with a module for each noun, in it a documented function for each verb.

    `comment` stands in every body.
    """

    def make(verbs, nouns, comment=""):
        said = f"    # {comment}\n" if comment else ""
        folder = tmp_path_factory.mktemp("project")
        for noun in nouns:
            functions = [
                f'def {verb}_{noun}(value):\n    """{verb.title()} the {noun} that was given first."""\n'
                f"{said}    {noun} = value.{verb}()\n    check({noun})\n    return {noun}.{verb}ed\n"
                for verb in verbs
            ]
            (folder / f"{noun}.py").write_text("\n\n".join(functions))
        return folder

    return make


@pytest.fixture(scope="session")
def project(documented):
    return documented(VERBS, NOUNS)


@pytest.fixture(scope="session")
def base(project, tmp_path_factory):
    """A backbone made for `project`. Not to be written to."""
    from udever.training.fresh import make_base

    folder = tmp_path_factory.mktemp("fresh") / "base"
    make_base([path.read_text() for path in project.iterdir()], folder, vocab_size=400, hidden_size=32, num_heads=2)
    return folder
