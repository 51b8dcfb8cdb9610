import subprocess
import sys

import pytest

import udever


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_no_torch():
    heavy = ["torch", "transformers", "numpy", "tokenizers", "pyarrow", "peft"]
    code = f"import sys, udever; udever.ModelError; dir(udever); print([m for m in {heavy} if m in sys.modules])"
    assert python(code) == "[]"
    assert python("import sys, udever; udever.Embedder; print('torch' in sys.modules)") == "True"


def test_the_public_names_are_sorted_and_resolve():
    assert udever.__all__ == sorted(udever.__all__)
    for name in udever.__all__:
        assert getattr(udever, name).__name__ == name
    assert set(udever.__all__) <= set(dir(udever))


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Embeder"):
        udever.Embeder  # noqa: B018
    assert not hasattr(udever, "torch")


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert udever.__version__ == version("udever")
