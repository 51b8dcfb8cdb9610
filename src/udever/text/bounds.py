"""How much of a text can matter to a model: what is behind that is cut before any work is done on it."""

CHARS_PER_TOKEN = 64
"""More characters than this, a token, are cut: no tokenizer's text reaches it but runs of one character."""


def bound_chars(text: str, max_tokens: int) -> tuple[str, bool]:
    """The beginning of `text` that `max_tokens` tokens can hold, and whether anything was cut."""
    most = max_tokens * CHARS_PER_TOKEN
    return (text, False) if len(text) <= most else (text[:most], True)
