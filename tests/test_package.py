import gc
import subprocess
import sys
from inspect import Parameter, signature

import pytest

import udever
from udever.garbage import uncollected


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_torch():
    heavy = ["torch", "transformers", "numpy", "tokenizers", "pyarrow", "peft"]
    code = "import os, sys, udever; udever.errors.ModelError; dir(udever); waits = os.environ.get('GOMP_SPINCOUNT')"
    assert python(f"{code}; print([m for m in {heavy} if m in sys.modules], waits)") == "[] None"


def test_loading_the_bundled_model_imports_nothing_that_it_does_not_use():
    """Each of these took a second or more of what a first vector takes."""
    heavy = ["torch._dynamo", "transformers", "huggingface_hub", "accelerate", "peft", "scipy", "sklearn", "pyarrow"]
    code = "import gc, sys, udever; udever.Embedder.load('seedling').encode_query('x')"
    seen = f"'torch' in sys.modules, gc.isenabled(), [m for m in {heavy} if m in sys.modules]"
    assert python(f"{code}; print({seen})") == "True True []"


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_looked_for_again_after_a_block_without(collects):
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ValueError, match="inside"), uncollected():
            assert not gc.isenabled()
            raise ValueError("inside")
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()


def test_the_public_names_are_these_and_resolve():
    """One more name is one more promise: add it here on purpose."""
    names = (
        "AdaptSettings Embedder Filter Filters Index Recipe TruncationWarning adapt errors evaluate read_vectors serve "
        "train"
    )
    assert udever.__all__ == names.split() == sorted(udever.__all__)
    for name in udever.__all__:
        assert getattr(udever, name).__name__.rpartition(".")[2] == name
    assert dir(udever) == sorted([*udever.__all__, "__version__"])


def test_no_public_signature_takes_any_keyword():
    """help() and completion show every option, and type checkers know it."""
    functions = [getattr(udever, name) for name in udever.__all__ if name not in ("errors", "TruncationWarning")]
    embedder = udever.Embedder
    methods = [getattr(embedder, name) for name in vars(embedder) if not name.startswith("_")]
    for function in [*functions, *filter(callable, methods)]:
        kinds = {p.kind for p in signature(function).parameters.values()}
        assert not kinds & {Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL}, function


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_type_checkers_know_the_options_that_help_shows(method):
    from typing import get_args, get_overloads, get_type_hints

    function = getattr(udever.Embedder, method)
    shown = signature(function).parameters.keys() - {"self", "texts", "convert_to_tensor"}
    hints = [get_type_hints(overload) for overload in get_overloads(function)]
    assert [shown] * 2 == [get_type_hints(get_args(of["options"])[0]).keys() for of in hints]


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Embeder'; did you mean 'Embedder'"):
        udever.Embeder  # noqa: B018
    assert not hasattr(udever, "torch")


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert udever.__version__ == version("udever")
