"""PURE modules stay free of frameworks, whoever imports them and by whatever way."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "medportal"
MARK = "(PURE)"
#: What a PURE module may import besides the standard library and other PURE modules.
ALLOWED = {"cryptography"}
#: What one PURE module alone may import: data and an encoding, no framework.
ALLOWED_TO_ONE = {"cbor2": "medportal.core.canonical", "zxcvbn": "medportal.identity.blocklist"}
FRAMEWORKS = [
    "alembic",
    "argon2",
    "click",
    "colander",
    "deform",
    "granian",
    "psycopg",
    "pymongo",
    "pyramid",
    "pyramid_tm",
    "sqlalchemy",
    "structlog",
    "transaction",
    "webob",
    "zope",
]


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _is_marked(path: Path) -> bool:
    # The mark stands in the first paragraph; package docstrings talk about other modules.
    words = ast.get_docstring(_tree(path)) or ""
    return path.name != "__init__.py" and MARK in words.split("\n\n")[0]


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PURE = {name: path for name, path in MODULES.items() if _is_marked(path)}


def _imports(path: Path) -> Iterator[str]:
    """Give every module that a file imports, also inside functions."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def _is_allowed(imported: str, by: str) -> bool:
    top = imported.split(".")[0]
    if top in ALLOWED_TO_ONE:
        return by == ALLOWED_TO_ONE[top]
    return top in sys.stdlib_module_names or top in ALLOWED or imported in PURE


def test_the_marked_modules_are_the_ones_under_contract():
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = {c["id"]: c for c in document["tool"]["importlinter"]["contracts"]}
    assert sorted(contracts["pure"]["source_modules"]) == sorted(PURE)


@pytest.mark.parametrize(
    "name",
    [
        "medportal.tenancy.tenant",
        "medportal.identity.assurance",
        "medportal.access.decisions",
        "medportal.delivery.parcel",
        "medportal.records.content",
        "medportal.transfer.protocol",
        "medportal.pki.verify",
        "medportal.vault.envelope",
        "medportal.audit.merkle",
    ],
)
def test_what_the_design_calls_pure_is_marked(name):
    assert name in PURE


def test_every_module_of_core_is_marked():
    core = {name for name in MODULES if name.startswith("medportal.core.")}
    assert core
    assert core <= set(PURE)


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_imports_the_standard_library_cryptography_and_pure_modules(name):
    wrong = {imported for imported in _imports(PURE[name]) if not _is_allowed(imported, name)}
    assert not wrong


def _culprits(modules: list[str], forbidden: list[str]) -> list[str]:
    """Import modules one after the other in a new interpreter; return those that pulled."""
    program = """
import importlib, sys
modules, forbidden = sys.argv[1].split(","), set(sys.argv[2].split(","))
for name in modules:
    before = forbidden & set(sys.modules)
    importlib.import_module(name)
    pulled = (forbidden & set(sys.modules)) - before
    if pulled:
        print(name, *sorted(pulled))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(modules), ",".join(forbidden)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    return done.stdout.splitlines()


def test_importing_pure_modules_pulls_in_no_framework():
    assert not _culprits(list(PURE), FRAMEWORKS)


def test_the_check_would_notice_a_framework():
    # Proof that the test above can fail: the room's door is pure, its views are not.
    found = _culprits(["medportal.web.colour", "medportal.web.errors"], FRAMEWORKS)
    assert len(found) == 1
    assert found[0].startswith("medportal.web.errors ")
    assert "pyramid" in found[0]
