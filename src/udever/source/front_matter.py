"""What stands above a Markdown page: settings of the site's generator, where it is settings."""

import re
import tomllib

import yaml

_FENCED = re.compile(r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<inside>(?:.*\n){0,1000}?)(?P=fence)[ \t]*(?:\n|\Z)")
_MAX_CHARACTERS = 100_000


def front_matter_length(text: str) -> int:
    """How many characters at the start of a page are front matter: 0 where there is none.

    Front matter is a YAML mapping between lines of `---`, or TOML between lines of `+++`; anything else between two
    rules is the page's own text.
    """
    found = _FENCED.match(text)
    if found is None or found.end() > _MAX_CHARACTERS:
        return 0
    try:
        if found["fence"] == "+++":
            settings = tomllib.loads(found["inside"])
        else:
            settings = yaml.load(found["inside"], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return 0
    return found.end() if isinstance(settings, dict) and settings else 0
