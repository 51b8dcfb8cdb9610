"""The models that come with the package."""

from pathlib import Path

from udever.errors import ModelError

MODELS = Path(__file__).parent / "models"
NAMES = ("seedling",)


def bundled_folder(name: str) -> Path | None:
    """Where the bundled model of that name lies; None for any other name, and where a folder here is called so.

    Raises ModelError where the installation lacks it.
    """
    if name not in NAMES or Path(name).is_dir():
        return None
    folder = MODELS / name
    if not (folder / "udever.json").is_file():
        raise ModelError(f"{name} is bundled with udever, and this installation lacks it; install udever again")
    return folder
