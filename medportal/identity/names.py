"""Names as they are compared (PURE)."""

import unicodedata


def folded(name: str) -> str:
    """Return a name without case, accents and punctuation, its words parted by single spaces.

    "D'Ávila-Reis, JOSÉ" and "d avila reis  jose" are the same name; "Ana" and "Ana Maria" are
    not. Empty, or without a letter, for what is no name.
    """
    plain = _fold(unicodedata.normalize("NFKD", name))
    return " ".join("".join(_kept(character) for character in plain).split())


def begins(name: str, typed: str) -> bool:
    """Tell whether a name, or one of its words, begins with what was typed; both folded."""
    return bool(typed) and f" {typed}" in f" {name}"


def _fold(text: str) -> str:
    # Folding case can bring back compatibility forms and the other way round; three rounds reach
    # the fixed point that Unicode calls NFKC_Casefold, in decomposed form.
    for _ in range(3):
        text = unicodedata.normalize("NFKD", text.casefold())
    return text


def _kept(character: str) -> str:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return ""
    return character if character.isalnum() else " "
