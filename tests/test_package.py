import subprocess
import sys
from inspect import signature

import pytest

import udever


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_torch():
    heavy = ["torch", "transformers", "numpy", "tokenizers", "pyarrow", "peft"]
    code = f"import sys, udever; udever.errors.ModelError; dir(udever); print([m for m in {heavy} if m in sys.modules])"
    assert python(code) == "[]"
    assert python("import sys, udever; udever.Embedder; print('torch' in sys.modules)") == "True"


def test_the_public_names_are_these_and_resolve():
    """One more name is one more promise: add it here on purpose."""
    names = (
        "AdaptSettings Embedder Filters Index Recipe TruncationWarning adapt errors evaluate read_vectors serve train"
    )
    assert udever.__all__ == names.split() == sorted(udever.__all__)
    for name in udever.__all__:
        assert getattr(udever, name).__name__.rpartition(".")[2] == name
    assert dir(udever) == sorted([*udever.__all__, "__version__"])


def test_no_public_signature_takes_any_keyword():
    """Completion and type checkers know every option."""
    from typing import get_args, get_type_hints

    embedder = udever.Embedder
    for function in (embedder.load, embedder.encode, embedder.encode_query, embedder.encode_document):
        options = next(p for p in signature(function).parameters.values() if p.kind is p.VAR_KEYWORD)
        (known,) = get_args(get_type_hints(function)[options.name])
        assert "normalize" in get_type_hints(known)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Embeder"):
        udever.Embeder  # noqa: B018
    assert not hasattr(udever, "torch")


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert udever.__version__ == version("udever")
