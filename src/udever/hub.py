"""The model hub: a model fetched by its name, and a folder published under one.

Where the hub is and who asks is for huggingface_hub's own settings to say: `HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`.
"""

from pathlib import Path

from udever.errors import ModelError, OutputError, first_line
from udever.model.configuration import CONTRACT_FILE

FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "*.svg", "*.toml", "*/config.json", "README.md")
"""What of a model's folder is published."""

_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "README.md", "recipe.toml")


def fetch(
    name: str, revision: str | None = None, *, allow_pickle: bool = False, trust_remote_code: bool = False
) -> Path:
    """The folder of the hub's model `name`, downloaded where it is not at hand: only the files that are needed.

    Pickles and the model's own code are among them where they may be used. Raises ModelError where it cannot be had,
    saying which it is: offline, no such model, no right to it, or else.
    """
    from huggingface_hub import constants, errors, snapshot_download

    patterns = [*_FETCHED, *(["*.bin"] if allow_pickle else []), *(["*.py"] if trust_remote_code else [])]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        away = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        reasons = {  # the first that fits: one is a kind of another
            errors.GatedRepoError: "access is restricted: accept the model's terms on its hub page, then set HF_TOKEN",
            errors.RepositoryNotFoundError: "no such model there, or it is private: check the name, or set HF_TOKEN",
            errors.RevisionNotFoundError: f"the model has no revision {revision!r}",
            errors.HFValidationError: "not a valid name of a hub model, such as org/model",
            errors.LocalEntryNotFoundError: f"{away}, and no copy is on this machine",
        }
        why = next((why for kind, why in reasons.items() if isinstance(error, kind)), first_line(error))
        raise ModelError(f"{name} is no local folder and cannot be fetched from the hub: {why}") from error


def publish(folder: Path, name: str, *, private: bool = True, revision: str | None = None, message: str = "") -> str:
    """Put a model's folder on the hub as `name` (org/model) and return the address of the commit.

    The repository is made where there is none, private unless told otherwise; one that is there keeps its visibility.
    `revision` is a branch. Raises OutputError in one line for a folder that is no model of this project, a name that is
    none, a missing token, no permission and a hub that cannot be reached.
    """
    from huggingface_hub import HfApi, errors

    if not (folder / CONTRACT_FILE).is_file():
        raise OutputError(f"{folder} has no {CONTRACT_FILE}; expected the folder of a model that udever saved")
    if name.count("/") != 1:
        raise OutputError(f"{name!r} is no name on the hub; expected org/model")
    # the client's own error of a broken connection, of whichever HTTP library this version uses
    transport: type[Exception] = next(kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    hub = HfApi()
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            hub.create_branch(name, branch=revision, exist_ok=True)
        done = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            revision=revision,
            commit_message=message or f"Publish {folder.name}",
            allow_patterns=list(FILES),
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled, transport, OSError) as error:
        raise OutputError(f"cannot publish {name}: {first_line(error)}; check HF_TOKEN and the name") from error
    return str(done.commit_url)
