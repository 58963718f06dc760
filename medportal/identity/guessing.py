"""How many guesses a password withstands, roughly (PURE).

A guesser tries what people choose: common passwords, words and names, in other spellings, one
after the other, with keys that lie side by side, with something repeated, with a year. So a
password is read as the cheapest chain of such parts, and the bits of its parts are added up;
what is none of them counts as letters that were rolled with a ten-sided die. The idea is that
of D. Wheeler, "zxcvbn: Low-Budget Password Strength Estimation", USENIX Security 2016; names,
and words of the institution, are parts that cost next to nothing.

Figures are chosen so that four different words are enough whichever they are, and two words
are not. The work is bounded by :data:`LONGEST`, whatever is typed.

``web/static/strength.js`` is the same reckoning with a short list: it never shows less than
this module finds.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medportal.identity.blocklist import LOOKALIKES, common, fold

#: Only so much of a password is looked at.
LONGEST = 256
#: What a password has to have where it is the only factor, and for each character required.
ENOUGH = 30.0
_FOR_EACH = 2.5

_ANY = math.log2(10)
_SEPARATOR = 1.0
_PERSONAL = 3.0
_COPY = 4.0
_SEQUENCE = 5.0
_WALK = 5.0
_TURN = 2.0
_YEAR = 6.5
_REVERSED = 1.0
_LONGEST_WORD = 30
_LEAST_COPY = 3
_LEAST_SEQUENCE = 3
_LEAST_WALK = 4
_SEPARATORS = frozenset(" -_.,;/")
# Rows of keys; a key and the one below it are in one column, on this grid.
_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_KEYS = {key: (row, column) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}

#: A part of the password from one place to another, and its bits.
Part = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class _Text:
    """A password without accents and case, as its parts are sought in it.

    ``capitals`` says which letters were capitals, ``alike`` has look-alikes as one, and
    ``again`` how many characters from each place on stand earlier in it, too.
    """

    plain: str
    capitals: tuple[bool, ...]
    alike: str
    again: tuple[int, ...]


def _text(letters: Sequence[tuple[str, bool]]) -> _Text:
    plain = "".join(letter for letter, _capital in letters)
    alike = plain.translate(LOOKALIKES)
    return _Text(plain, tuple(capital for _, capital in letters), alike, _again(alike))


def _letters(password: str) -> list[tuple[str, bool]]:
    """Return the folded letters, and whether each was a capital."""
    typed = unicodedata.normalize("NFKC", password[: 4 * LONGEST])
    return [(part, ch.isupper()) for ch in typed for part in fold(ch)][:LONGEST]


def _again(text: str) -> tuple[int, ...]:
    """Return for each place how much of what follows there stood before (perhaps overlapping)."""
    longest = [0] * (len(text) + 1)
    after = [0] * (len(text) + 1)
    # after[j] is how long the texts from i + 1 and from j on are the same, then those from i.
    for i in range(len(text) - 1, -1, -1):
        for j in range(i + 1, len(text)):
            after[j] = after[j + 1] + 1 if text[i] == text[j] else 0
            longest[j] = max(longest[j], after[j])
    return tuple(longest)


def bits_wanted(minimum: int) -> float:
    """Return how many bits a password of at least ``minimum`` characters has to have."""
    return min(ENOUGH, _FOR_EACH * minimum)


def bits(password: str, personal: Iterable[str] = ()) -> float:
    """Return the base-2 logarithm of the guesses that a password withstands.

    ``personal`` are words, names and numbers that are known of its owner.
    """
    known = {word: _PERSONAL for text in personal for word in _words(text)}
    letters = _letters(password)
    # "p a s s w o r d" is one word, and "many words" are many, with or without spaces.
    joined = [(letter, capital) for letter, capital in letters if letter not in _SEPARATORS]
    apart = _SEPARATOR * (len(letters) - len(joined))
    return min(_cheapest(_text(letters), known), _cheapest(_text(joined), known) + apart)


def _words(text: str) -> Iterator[str]:
    """Give a text's parts of at least three letters or digits, and the whole, as compared."""
    plain = "".join(ch if ch.isalnum() else " " for ch in fold(text))
    for word in {*plain.split(), plain.replace(" ", "")}:
        if len(word) >= _LEAST_COPY:
            yield word.translate(LOOKALIKES)


def _cheapest(text: _Text, known: Mapping[str, float]) -> float:
    """Return the bits of the cheapest chain of parts that makes up the whole text."""
    size = len(text.plain)
    best = [0.0] + [math.inf] * size
    for start in range(size):
        here = best[start]
        for part in _parts(text, start, known):
            best[part[1]] = min(best[part[1]], here + part[2])
    return best[size]


def _parts(text: _Text, start: int, known: Mapping[str, float]) -> Iterator[Part]:
    """Give every part that begins at ``start``."""
    yield start, start + 1, _SEPARATOR if text.plain[start] in _SEPARATORS else _ANY
    yield from _of_words(text, start, known)
    yield from _copies(text, start)
    yield from _sequences(text, start)
    yield from _walks(text, start)
    if _is_year(text.plain[start : start + 4]):
        yield start, start + 4, _YEAR


def _of_words(text: _Text, start: int, known: Mapping[str, float]) -> Iterator[Part]:
    lists = common()
    for end in range(start + _LEAST_COPY, min(len(text.alike), start + _LONGEST_WORD) + 1):
        word = text.alike[start:end]
        found = min(
            known.get(word, math.inf),
            lists.get(word, math.inf),
            lists.get(word[::-1], math.inf) + _REVERSED,
        )
        if found < math.inf:
            yield start, end, found + _of_capitals(text.capitals[start:end])


def _of_capitals(capitals: tuple[bool, ...]) -> float:
    count = sum(capitals)
    if count == 0:
        return 0.0
    return 1.0 if count == len(capitals) or (count == 1 and capitals[0]) else min(4.0, 1.0 + count)


def _copies(text: _Text, start: int) -> Iterator[Part]:
    """Give what stood before already: once more, or over and over."""
    for length in range(_LEAST_COPY, text.again[start] + 1):
        yield start, start + length, _COPY


def _sequences(text: _Text, start: int) -> Iterator[Part]:
    """Give runs such as "abcdef" and "98765"."""
    for step in (1, -1):
        end = start + 1
        while end < len(text.plain) and ord(text.plain[end]) - ord(text.plain[end - 1]) == step:
            end += 1
            if end - start >= _LEAST_SEQUENCE:
                yield start, end, _SEQUENCE


def _walks(text: _Text, start: int) -> Iterator[Part]:
    """Give runs of keys that lie side by side, such as "qwerty" and "1qaz"."""
    turns, before = 0, None
    for end in range(start + 1, min(len(text.plain), start + _LONGEST_WORD)):
        step = _step(text.plain[end - 1], text.plain[end])
        if step is None:
            return
        turns += before is not None and step != before
        before = step
        if end + 1 - start >= _LEAST_WALK:
            yield start, end + 1, _WALK + _TURN * turns


def _step(one: str, two: str) -> tuple[int, int] | None:
    """Return the direction from a key to the one beside it, or ``None`` if it is not beside it."""
    if one not in _KEYS or two not in _KEYS or one == two:
        return None
    down, right = (b - a for a, b in zip(_KEYS[one], _KEYS[two], strict=True))
    return (down, right) if abs(down) <= 1 and abs(right) <= 1 else None


def _is_year(text: str) -> bool:
    return len(text) == 4 and text[:2] in {"19", "20"} and text.isascii() and text.isdigit()
