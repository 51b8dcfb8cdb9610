"""Step 0: the packages of packages.toml -> SEEDLING_WORK/packages, unpacked, with versions in versions.json.

Uses pip, npm, apt-get and dpkg-deb; apt needs deb-src lines for the source packages. What is there already stays.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

from common import WORK

PACKAGES = WORK / "packages"
LISTED = tomllib.loads((Path(__file__).parent / "packages.toml").read_text())


def run(command: list[str], folder: Path) -> bool:
    """Run a command in `folder` (made if missing); False, with its last line printed, where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {' '.join(command[:4])} ...: {(done.stderr.strip().splitlines() or ['failed'])[-1][:120]}")
    return done.returncode == 0


def unpack(archive: Path, folder: Path) -> None:
    """One archive into `folder`, unless that is there."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    elif archive.suffix == ".deb":
        run(["dpkg-deb", "-x", str(archive.resolve()), str(folder.resolve())], folder)
    else:
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")


def newest(folder: Path, before: set[Path]) -> list[Path]:
    """What a download added."""
    return sorted(set(folder.iterdir()) - before)


def fetch(section: str, short: str, command: list[str], versions: dict[str, str]) -> None:
    """Every package of one section of the list."""
    store = PACKAGES / section
    store.mkdir(parents=True, exist_ok=True)
    for name in LISTED[section]:
        target = PACKAGES / short / name.replace("/", "__")
        if target.exists():
            continue
        before = set(store.iterdir())
        if run([*command, name], store):
            for archive in newest(store, before):
                if archive.suffix != ".dsc" and ".debian." not in archive.name and archive.suffix != ".asc":
                    unpack(archive, target)
                    versions[f"{section}/{name}"] = archive.name


def dictionaries(versions: dict[str, str]) -> None:
    """All of Debian's FreeDict packages; mine.py leaves out those whose licence does not fit."""
    found = subprocess.run(["apt-cache", "search", "-n", "dict-freedict"], capture_output=True, text=True, check=True)
    store = PACKAGES / "freedict"
    run(["apt-get", "download", *(line.split()[0] for line in found.stdout.splitlines())], store)
    for archive in sorted(store.glob("*.deb")):
        unpack(archive, PACKAGES / "x" / archive.name.split("_")[0])
        versions[f"freedict/{archive.name.split('_')[0]}"] = archive.name


def main() -> None:
    """Download and unpack everything."""
    record = PACKAGES / "versions.json"
    versions = json.loads(record.read_text()) if record.exists() else {}
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    fetch("pypi", "xp", pip, versions)
    if shutil.which("npm"):
        fetch("npm", "xn", ["npm", "pack", "--silent"], versions)
    if shutil.which("apt-get"):
        fetch("debian_source", "xs", ["apt-get", "source", "--download-only"], versions)
        fetch("debian_binary", "xb", ["apt-get", "download"], versions)
        dictionaries(versions)
    record.write_text(json.dumps(versions, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
