"""The verifier of exported logs as one file that needs Python and ``cryptography`` alone.

An auditor gets it from somebody who is not the institution that is checked, or builds it; the
same sources give the same bytes, so that two of them can be compared.
"""

import ast
import zipfile
from collections.abc import Iterator
from pathlib import Path

ENTRY = "medportal.ops.verify_log"
PACKAGE = Path(__file__).resolve().parents[1]
#: What the file has in the place of a package from elsewhere.
STANDS_IN = {"cbor2.py": PACKAGE / "ops" / "plain_cbor.py"}
MAIN = f"import sys\n\nfrom {ENTRY} import main\n\nsys.exit(main())\n"
#: The earliest that a zip file can say: when it was written shall not matter.
WRITTEN = (1980, 1, 1, 0, 0, 0)


def write_verifier(output: Path) -> int:
    """Write the file; run it as ``python -I FILE LOG --ca CA``. Return how many modules it has."""
    needed = _needed()
    texts = {_inside(path): path.read_text("utf-8") for path in needed}
    texts |= {name: path.read_text("utf-8") for name, path in STANDS_IN.items()}
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted({**texts, "__main__.py": MAIN}.items()):
            entry = zipfile.ZipInfo(name, WRITTEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
    return len(needed)


def _inside(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def _needed() -> set[Path]:
    """Return the files of the verifier and of every module that it imports."""
    found: set[Path] = set()
    waiting = [ENTRY]
    while waiting:
        path = _path(waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
        waiting += _imported(path)
        # A module is imported after the packages that it lies in.
        found |= {
            parent / "__init__.py"
            for parent in path.parents
            if parent == PACKAGE or PACKAGE in parent.parents
        }
    return found


def _path(name: str) -> Path | None:
    """Return where one of our modules is, ``None`` for a package, another's module or a name."""
    path = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
    return path if PACKAGE in path.parents and path.is_file() else None


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
