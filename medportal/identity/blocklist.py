"""Common passwords, words and names, as a guesser tries them (PURE).

The lists lie in ``wordlists`` beside this module, the commonest first; where they come from is
said there. They are read when the first password is chosen, and hold no more than a list of
words does: which passwords are refused is decided in :mod:`medportal.identity.guessing`.
"""

import gzip
import math
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

#: Characters that are written for one another, or taken for one another.
LOOKALIKES = str.maketrans(
    "01l|!3465$@789+2аеорсхукміѕαοε",
    "oiiiieabssatbgtzaeopcxykmisaoe",
)
#: The lists, and the fewest bits that a word of each costs: a common password is tried before
#: everything else, and whoever puts words together has a hundred to choose from in any case.
_LISTS = {"passwords": 5.0, "words-en": 7.0, "words-pt": 7.0, "names-pt": 7.0}


def fold(text: str) -> str:
    """Return a text without accents, case, compatibility forms and invisible characters."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(ch for ch in plain if unicodedata.category(ch) not in {"Mn", "Me", "Cf"})


@cache
def common() -> Mapping[str, float]:
    """Return what is common, as it is compared (look-alikes as one): its bits."""
    found: dict[str, float] = {}
    for name, least in _LISTS.items():
        for rank, word in enumerate(_read(name), 1):
            key = fold(word).translate(LOOKALIKES)
            found[key] = min(found.get(key, math.inf), max(least, math.log2(rank)))
    return found


def _read(name: str) -> Iterator[str]:
    file = files("medportal.identity").joinpath("wordlists", f"{name}.txt.gz")
    yield from gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()
