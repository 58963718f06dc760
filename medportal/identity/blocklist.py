"""Common passwords, words and names, as a guesser tries them (PURE).

They come from two places: the lists of the package ``zxcvbn`` (English, the commonest first),
and ``wordlists/own.txt`` beside this module, which is ours (Portuguese, and words of a place
such as this). Of the package only its lists are used: its reckoning keeps the words of one
person in a table that all threads share, and knows neither accents nor Portuguese.

They are read when the first password is chosen, and hold no more than a list of words does:
which passwords are refused is decided in :mod:`medportal.identity.guessing`.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import chain

#: Characters that are written for one another, or taken for one another.
LOOKALIKES = str.maketrans(
    "01l|!3465$@789+2аеорсхукміѕαοε",
    "oiiiieabssatbgtzaeopcxykmisaoe",
)
#: The fewest bits of a password that is common, and of a common word: the former are tried
#: before everything else, and whoever puts words together has a hundred to choose from anyhow.
_PASSWORD, _WORD = 5.0, 7.0
#: The package's lists of words; what is in one is in no other.
_WORDS = ("english_wikipedia", "us_tv_and_film", "female_names", "male_names", "surnames")
#: A word of our own: they have no ranks, and each counts as one of the five hundred commonest.
_OWN = 9.0
#: No shorter word is looked for.
_LEAST_LETTERS = 3


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
    for word, cost in chain(_listed(), _own()):
        alike = fold(word).translate(LOOKALIKES)
        # The package keeps its words in memory, so that the same text twice would be a waste.
        key = word if alike == word else alike
        found[key] = min(found.get(key, math.inf), cost)
    return found


def _listed() -> Iterator[tuple[str, float]]:
    # Imported here, since the package reads all of its lists at import, which takes a moment.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    yield from _ranked(FREQUENCY_LISTS["passwords"], 1, _PASSWORD)
    for name in _WORDS:
        # Whoever does not know which list a word is from goes through all of them side by side.
        yield from _ranked(FREQUENCY_LISTS[name], len(_WORDS), _WORD)


def _ranked(words: Iterable[str], lists: int, least: float) -> Iterator[tuple[str, float]]:
    for rank, word in enumerate(words, 1):
        if len(word) >= _LEAST_LETTERS:
            yield word, max(least, math.log2(lists * rank))


def _own() -> Iterator[tuple[str, float]]:
    file = files("medportal.identity").joinpath("wordlists", "own.txt")
    for line in file.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            yield from ((word, _OWN) for word in line.split())
