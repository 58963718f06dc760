"""Make the lists of this directory anew from where they come from; see README.md.

Run as ``python medportal/identity/wordlists/make.py PACKAGES``, a directory in which the three
npm packages that README.md names are unpacked as ``common``, ``en`` and ``pt-br``.
"""

import gzip
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORDS = 10_000
LEAST_LETTERS = 3
#: How many passwords are commoner than those of own.txt.
OWN_AT = 400


def listed(packages: Path, package: str, name: str) -> list[str]:
    """Return a list of words of a package, the commonest first."""
    words: list[str] = json.loads((packages / package / "src" / f"{name}.json").read_text("utf-8"))
    return [word for word in words if len(word) >= LEAST_LETTERS]


def letters_only(words: list[str]) -> list[str]:
    """Return the words that are nothing but letters."""
    return [word for word in words if word.isalpha()]


def write(name: str, words: list[str]) -> None:
    """Write a list, each word once; the same words give the same bytes."""
    text = "".join(f"{word}\n" for word in dict.fromkeys(words))
    (HERE / f"{name}.txt.gz").write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))


def main(packages: Path) -> None:
    """Write every list."""
    own = (HERE / "own.txt").read_text("utf-8").split()
    known = listed(packages, "common", "passwords")
    write("passwords", known[:OWN_AT] + own + known[OWN_AT:])
    write("words-en", letters_only(listed(packages, "en", "commonWords"))[:WORDS])
    write("words-pt", letters_only(listed(packages, "pt-br", "commonWords"))[:WORDS])
    names = [
        name
        for kind in ("firstnames", "lastnames")
        for name in letters_only(listed(packages, "pt-br", kind))
    ]
    write("names-pt", names)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
