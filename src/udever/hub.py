"""The model hub: a model fetched by its name.

Where the hub is and who asks is for huggingface_hub's own settings to say: `HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`.
"""

from pathlib import Path

from udever.errors import ModelError

_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "README.md")


def fetch(name: str, revision: str | None = None, *, allow_pickle: bool = False) -> Path:
    """The folder of the hub's model `name`, downloaded where it is not at hand: only the files that are needed.

    Raises ModelError where it cannot be had, saying which it is: offline, no such model, no right to it, or else.
    """
    from huggingface_hub import constants, errors, snapshot_download

    patterns = [*_FETCHED, *(["*.bin"] if allow_pickle else [])]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        why = "its authors give it to those alone who accepted their terms: do, and set HF_TOKEN"
        raise ModelError(_refused(name, why)) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(_refused(name, "it has no such model, or a private one: HF_TOKEN says who asks")) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(_refused(name, f"the model has no revision {revision!r}")) from error
    except errors.HFValidationError as error:
        raise ModelError(_refused(name, "that is no name of a model there, such as org/model")) from error
    except errors.LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise ModelError(_refused(name, f"{why}, and no copy is on this machine")) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise ModelError(_refused(name, (str(error).strip().splitlines() or ["unknown"])[0])) from error


def _refused(name: str, why: str) -> str:
    return f"{name} is no local folder and cannot be fetched from the hub: {why}"
