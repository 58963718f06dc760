"""The standalone verifier: real keys, real files, and nothing of the application."""

import json
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cbor2
import pytest
from crx_institutions import House, found
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.audit.heads import HeadSigner, SignedHead
from medportal.audit.maintenance import declare_restore
from medportal.audit.sequence import sequence
from medportal.audit.verifier import export_lines, latest_head
from medportal.core.clock import utcnow
from medportal.ops import plain_cbor, verify_log
from medportal.ops.verifier_file import write_verifier
from medportal.ops.verify_log import CRL_LIMITS, main
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Purpose

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ["sqlalchemy", "pyramid", "click", "structlog", "colander", "psycopg", "zope"]


def signer_of(house: House) -> HeadSigner:
    return HeadSigner(house.id, house.keys.signer(Purpose.HEAD), house.keys.signer(Purpose.HEAD_PQ))


def grow(house: House, count: int) -> SignedHead:
    with Session(house.engine) as session, session.begin():
        for _ in range(count):
            append(session, Event.create(Action.AUDIT_VIEWED, now=utcnow()))
    with Session(house.engine) as session, session.begin():
        sequence(session, signer_of(house), utcnow())
    with Session(house.engine) as session:
        head = latest_head(session)
    assert head is not None
    return head


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = found(tmp_path_factory.mktemp("house"), "hospital")
    grow(made, 3)
    grow(made, 2)
    yield made
    made.engine.dispose()


@pytest.fixture
def files(house: House, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Give an export, the authority's certificate, and a head that somebody held."""
    log, head = tmp_path / "log.jsonl", tmp_path / "held.head"
    with Session(house.engine) as session:
        log.write_text("\n".join(export_lines(session, house.id)) + "\n", "utf-8")
        newest = latest_head(session)
    assert newest is not None
    head.write_bytes(newest.to_bytes())
    return log, house.pki / "ca.crt", head


def test_a_whole_log(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log, ca, head = files
    assert main([str(log), "--ca", str(ca), "--head", str(head)]) == 0
    assert capsys.readouterr().out.startswith("WHOLE: 5 events of hospital under 2 heads.")
    assert main([str(log), "--ca", str(ca), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["events"], row["finding"], row["forgotten"]) == (5, "whole", 0)


def test_the_first_bad_event_is_named(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log, ca, _head = files
    found_lines = log.read_text("utf-8").splitlines()
    events = [i for i, line in enumerate(found_lines) if json.loads(line)["type"] == "event"]
    victim = json.loads(found_lines[events[1]])["labels"]["id"]
    body = json.loads(found_lines[events[1]])
    body["leaf"] = json.loads(found_lines[events[2]])["leaf"]
    changed = [*found_lines]
    changed[events[1]] = json.dumps(body)
    log.write_text("\n".join(changed) + "\n", "utf-8")
    assert main([str(log), "--ca", str(ca)]) == 1
    said = capsys.readouterr().out
    assert "NOT WHOLE" in said and "at event 1" in said and victim in said
    assert main([str(log), "--ca", str(ca), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["first_bad_event"] == "1"


def test_a_fork_is_told_between_the_heads(
    house: House, files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, ca, held = files
    head = SignedHead.from_bytes(held.read_bytes()).head
    forked = signer_of(house).sign(type(head)(head.tenant, head.size, bytes(32), head.at))
    other = tmp_path / "other.head"
    other.write_bytes(forked.to_bytes())
    assert main([str(log), "--ca", str(ca), "--head", str(other)]) == 1
    assert "forked at event 0" in capsys.readouterr().out
    assert main([str(log), "--ca", str(ca), "--head", str(held), "--head", str(other)]) == 1
    said = capsys.readouterr().out
    assert "two heads held elsewhere" in said and "before event 5" in said


def test_what_was_lost_and_forgotten_is_said(
    house: House, files: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _log, ca, _head = files
    now = utcnow()
    with Session(house.engine) as session:
        newest = latest_head(session)
        assert newest is not None
        lost = signer_of(house).sign(type(newest.head)("hospital", 99, bytes(32), now))
        # In a transaction that is rolled back: the house stays as it is for the other tests.
        declare_restore(session, signer_of(house), lost.head, now)
        written = tmp_path / "restored.jsonl"
        written.write_text("\n".join(export_lines(session, house.id)) + "\n", "utf-8")
        session.rollback()
    held = tmp_path / "lost.head"
    held.write_bytes(lost.to_bytes())
    assert main([str(written), "--ca", str(ca), "--head", str(held)]) == 3
    said = capsys.readouterr().out
    assert said.startswith("WHOLE, EXCEPT FOR A DECLARED RESTORE: 6 events")
    assert main([str(written), "--ca", str(ca), "--json"]) == 0
    capsys.readouterr()
    assert "events 5 to 98 were lost in a restore" in said and "ask what happened" in said


def test_pruned_events_are_said(house: House, files: Any) -> None:
    log, ca, _head = files
    result = verify_log.verify_file(log, ca)
    from dataclasses import replace

    told = verify_log.in_words(replace(result, report=replace(result.report, forgotten=3)))
    assert "Of the first 3 events only hashes are kept (pruned)." in told


@pytest.mark.parametrize(
    "spoiled", ["log", "ca", "head", "binary", "missing"], ids=lambda name: f"no-{name}"
)
def test_files_that_are_not_what_they_should_be(
    files: Any, spoiled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, ca, head = files
    odd = tmp_path / "odd"
    odd.write_bytes(b"\xff\xfe" if spoiled == "binary" else b"noise\n")
    if spoiled == "missing":
        log = tmp_path / "nowhere"
    elif spoiled == "ca":
        ca = odd
    elif spoiled == "head":
        head = odd
    else:
        log = odd
    assert main([str(log), "--ca", str(ca), "--head", str(head)]) == 2
    assert capsys.readouterr().err.startswith("cannot check: ")


def test_another_institutions_authority_does_not_do(
    files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ca, _head = files
    laboratory = found(tmp_path, "laboratory")
    laboratory.engine.dispose()
    assert main([str(log), "--ca", str(laboratory.pki / "ca.crt")]) == 1
    assert "bad-head" in capsys.readouterr().out


def test_a_head_without_its_revocation_list_is_not_believed(house: House, files: Any) -> None:
    log, ca, _head = files
    found_lines = []
    for line in log.read_text("utf-8").splitlines():
        fields = json.loads(line)
        if fields["type"] == "credential":
            fields["crl"] = None
        found_lines.append(json.dumps(fields))
    log.write_text("\n".join(found_lines) + "\n", "utf-8")
    # The credentials have other digests now, so heads refer to nothing.
    assert main([str(log), "--ca", str(ca)]) == 2
    trust = verify_log.CaTrust(house.store.ca)
    credential = grow(house, 1).signatures[0].credential
    bare = type(credential)(credential.chain, None)
    with pytest.raises(verify_log.NoRevocationList):
        trust(bare, algorithm="Ed25519", tenant="hospital", at=utcnow())


def test_the_limits_are_those_of_the_profiles() -> None:
    assert load_profiles().crl_limits == CRL_LIMITS


def test_it_runs_as_a_program_without_the_application(files: Any) -> None:
    log, ca, head = files
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FRAMEWORKS!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from medportal.ops.verify_log import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = [str(log), "--ca", str(ca), "--head", str(head)]
    for command in (["-c", program], ["-m", "medportal.ops.verify_log"]):
        done = subprocess.run(
            [sys.executable, *command, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("WHOLE")


def bare_python(directory: Path) -> Path:
    """Return a Python that reaches its standard library and ``cryptography``, nothing else."""
    venv.create(directory, symlinks=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    for name in ("cryptography", "cffi", "_cffi_backend"):
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        at = Path(spec.origin)
        at = at.parent if at.name == "__init__.py" else at
        (packages / at.name).symlink_to(at)
    return directory / "bin" / "python"


def test_one_file_runs_where_there_is_only_cryptography(
    files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, ca, head = files
    python, program = bare_python(tmp_path / "bare"), tmp_path / "verify.pyz"
    write_verifier(program)

    def run(*words: str | Path) -> Any:
        command = [python, "-I", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    for absent in ("medportal", "cbor2", "sqlalchemy"):
        assert "ModuleNotFoundError" in run("-c", f"import {absent}").stderr
    done = run(program, log, "--ca", ca, "--head", head)
    assert (done.returncode, done.stderr) == (0, "")
    assert main([str(log), "--ca", str(ca), "--head", str(head)]) == 0
    assert done.stdout == capsys.readouterr().out
    assert done.stdout.startswith("WHOLE: ")
    kept = log.read_text("utf-8").splitlines(keepends=True)
    victim = next(i for i, line in enumerate(kept) if json.loads(line)["type"] == "event")
    log.write_text("".join(kept[:victim] + kept[victim + 1 :]), "utf-8")
    done = run(program, log, "--ca", ca)
    assert (done.returncode, done.stdout.split(":")[0]) == (1, "NOT WHOLE")


def test_the_same_sources_give_the_same_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one.pyz", tmp_path / "other.pyz"
    assert write_verifier(one) == write_verifier(other) > 10
    assert one.read_bytes() == other.read_bytes()


WHOLE_NUMBERS = st.integers(min_value=-(2**64), max_value=2**64 - 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | WHOLE_NUMBERS | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | WHOLE_NUMBERS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_what_stands_in_for_cbor2_gives_and_takes_the_same(value: Any) -> None:
    data = cbor2.dumps(value, canonical=True)
    assert plain_cbor.dumps(value, canonical=True) == data
    assert plain_cbor.loads(data) == value


@pytest.mark.parametrize("data", [b"\xf9\x00\x00", b"\xc0\x00", b"\x5f\xff", b"\x00\x00", b"\x43a"])
def test_what_is_not_plain_is_not_taken(data: bytes) -> None:
    with pytest.raises(ValueError):
        plain_cbor.loads(data)
