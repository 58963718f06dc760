"""Backups by somebody else, wrong keys and passphrases, and what a thief makes of the files."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Site

from medportal.backup import checking
from medportal.backup.checking import check
from medportal.backup.container import CHUNK, DATA, KEYS, Label, SealedWriter
from medportal.backup.errors import (
    BackupDamaged,
    BackupError,
    NoBackupKey,
    NotABackup,
    NotSignedHere,
    TargetNotEmpty,
    WrongBackupKey,
)
from medportal.backup.files import MARK
from medportal.backup.frames import (
    File,
    Frame,
    FrameWriter,
    Heading,
    Manifest,
    Rows,
    SealedDocument,
)
from medportal.backup.keys import load_opener, make_key, sealing_key
from medportal.backup.restoring import Pair
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.keys import TenantKeys
from medportal.ops import backup
from medportal.pki.errors import KeyFileUnfit
from medportal.pki.profiles import Purpose
from medportal.tenancy.schema import wanted_revision
from medportal.vault.errors import KeyFileError, WrongPassphrase
from medportal.vault.passphrase import Cost

CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)
MANIFEST = Manifest(wanted_revision() or "", b"")


@pytest.fixture(scope="module")
def made(site: Site) -> Any:
    return site.create()


def forged(
    site: Site,
    part: str,
    frames: list[Frame],
    *,
    by: str = "hospital",
    tenant: str = "hospital",
    purposes: tuple[Purpose, ...] = checking.PURPOSES,
) -> Path:
    """Write a file as a thief of the public half does; ``by`` is whose head keys the thief has."""
    label = Label(new_id(), part, tenant, utcnow())
    path = site.directory / f"{label.backup}.backup"
    keys = TenantKeys(site.settings.tenant(by), site.settings.home(by))
    with path.open("wb") as file:
        key = sealing_key(site.settings.home("hospital"))
        sealed = SealedWriter(file, label, key, secrets.token_bytes(32))
        writer = FrameWriter(sealed)
        for frame in frames:
            writer.write(frame)
        signers = [keys.signer(purpose) for purpose in purposes]
        writer.signed(checking.sign(label, writer.end(), signers))
        sealed.finish()
    return path


@contextmanager
def refused(place: Any, kind: type[Exception], match: str) -> Iterator[None]:
    """Expect a refusal that leaves no file and no table behind."""
    with pytest.raises(kind, match=match):
        yield
    assert not any((place.home / name).exists() for name in ("pki", "vault", "audit", MARK))
    from medportal.backup.tables import is_empty

    with place.engine.connect() as connection:
        assert is_empty(connection)


def test_a_backup_that_another_institution_signed_is_refused(site: Site) -> None:
    path = forged(site, DATA, [MANIFEST], by="laboratory")
    with pytest.raises(NotSignedHere, match="does not vouch"):
        check(path, site.opener())


@pytest.mark.parametrize(
    "purposes",
    [
        (Purpose.HEAD,),
        (Purpose.HEAD, Purpose.HEAD),
        (Purpose.HEAD_PQ, Purpose.HEAD),
        (Purpose.RECORD, Purpose.HEAD_PQ),
    ],
)
def test_a_backup_without_both_signatures_is_refused(
    site: Site, purposes: tuple[Purpose, ...]
) -> None:
    with pytest.raises(NotSignedHere):
        check(forged(site, DATA, [MANIFEST], purposes=purposes), site.opener())


def test_signatures_of_one_backup_do_not_pass_for_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = checking.sign
    monkeypatch.setattr(
        checking,
        "sign",
        lambda label, digest, signers: inner(replace(label, backup=new_id()), digest, signers),
    )
    with pytest.raises(NotSignedHere, match="another backup"):
        check(forged(site, DATA, [MANIFEST]), site.opener())


ACTIVATION = (
    "person_id",
    "code_hash",
    "code_expires_at",
    "code_by",
    "link_hash",
    "link_expires_at",
)
HOSTILE: dict[str, tuple[str, list[Frame]]] = {
    "unknown-table": (DATA, [Heading("sqlite_master", ("name",)), Rows([["x"]])]),
    "table-of-the-other-part": (DATA, [Heading("patient_key", ("patient_id",))]),
    "fleeting-table": (DATA, [Heading("login_session", ("id",))]),
    "another-column": (DATA, [Heading("storage_epoch", ("only", "epoch", "since", "more"))]),
    "column-missing": (DATA, [Heading("storage_epoch", ("only",))]),
    "rows-of-no-table": (DATA, [Rows([["x"]])]),
    "row-too-short": (DATA, [Heading("storage_epoch", ("only", "epoch", "since")), Rows([[1]])]),
    "text-for-a-number": (
        DATA,
        [Heading("storage_epoch", ("only", "epoch", "since")), Rows([["x", "e", 1]])],
    ),
    "time-out-of-range": (
        DATA,
        [Heading("storage_epoch", ("only", "epoch", "since")), Rows([[1, "e", 2**62]])],
    ),
    "rows-that-refer-to-nobody": (
        DATA,
        [
            Heading("activation", ACTIVATION),
            Rows([["a" * 32, None, None, None, None, None]]),
        ],
    ),
    "one-row-twice": (
        DATA,
        [Heading("storage_epoch", ("only", "epoch", "since")), Rows([[1, "e", 1], [1, "e", 1]])],
    ),
    "document-of-no-row": (DATA, [SealedDocument("d" * 32, b"x")]),
    "file-above": (KEYS, [File("../../escape", 0o600, b"x")]),
    "file-aside": (KEYS, [File("pki/../../escape", 0o600, b"x")]),
    "file-absolute": (KEYS, [File("/tmp/escape", 0o600, b"x")]),
    "file-with-a-nul": (KEYS, [File("pki/a\0b", 0o600, b"x")]),
    "file-elsewhere": (KEYS, [File("portal.sqlite", 0o600, b"x")]),
    "file-in-audit": (KEYS, [File("audit/last.head", 0o600, b"x")]),
    "file-with-a-mode": (KEYS, [File("pki/run", 0o4755, b"x")]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_backup_of_ours_holds_is_refused_though_signed(
    site: Site, made: Any, name: str
) -> None:
    """An institution whose head keys were stolen may have signed anything."""
    part, frames = HOSTILE[name]
    hostile = forged(site, part, [MANIFEST, *frames])
    other = forged(site, KEYS if part == DATA else DATA, [MANIFEST])
    pair = Pair(hostile, other) if part == DATA else Pair(made.data, hostile)
    place = site.elsewhere()
    with refused(place, BackupDamaged, "of the backup"):
        place.restore(made, pair=pair)
    assert not (site.directory / "escape").exists()


def test_a_backup_by_a_newer_program_is_refused(site: Site, made: Any) -> None:
    newer = [Manifest("9999", b"")]
    pair = Pair(forged(site, DATA, newer), forged(site, KEYS, newer))
    place = site.elsewhere()
    with refused(place, BackupError, "newer program"):
        place.restore(made, pair=pair)


def test_files_in_each_others_place_are_refused(site: Site, made: Any) -> None:
    place = site.elsewhere()
    with refused(place, NotABackup, "each in its place"):
        place.restore(made, pair=Pair(made.keys, made.data))


@pytest.mark.parametrize("part", ["data", "keys"])
@pytest.mark.parametrize("harm", ["cut", "changed", "longer", "empty"])
def test_a_harmed_file_is_refused_before_anything_is_written(
    site: Site, made: Any, part: str, harm: str
) -> None:
    whole = getattr(made, part).read_bytes()
    middle = len(whole) // 2
    broken = {
        "cut": whole[:middle],
        "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "longer": whole + b"\0",
        "empty": b"",
    }[harm]
    path = site.directory / f"{part}-{harm}.backup"
    path.write_bytes(broken)
    place = site.elsewhere()
    with refused(place, BackupError, "backup"):
        place.restore(made, pair=replace(Pair(made.data, made.keys), **{part: path}))


def test_a_file_exchanged_after_it_was_checked_is_refused(
    site: Site, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another genuine backup in its place, while the restore is at work."""
    path = site.directory / "exchanged.backup"
    path.write_bytes(made.data.read_bytes())
    other = site.create()
    from medportal.backup import restoring

    inner = restoring.upgrade
    monkeypatch.setattr(
        restoring,
        "upgrade",
        lambda *arguments: (path.write_bytes(other.data.read_bytes()), inner(*arguments)),
    )
    place = site.elsewhere()
    with refused(place, BackupDamaged, "exchanged"):
        place.restore(made, pair=Pair(path, other.keys))


def test_another_backup_key_or_passphrase_is_told(site: Site, made: Any, tmp_path: Path) -> None:
    authority = (site.away / "authority.crt").read_bytes()
    make_key(tmp_path / "home", tmp_path / "other", authority, b"another passphrase", CHEAP)
    with pytest.raises(WrongBackupKey, match="made for another one"):
        check(made.data, load_opener(tmp_path / "other", b"another passphrase"))
    with pytest.raises(WrongPassphrase, match="does not open"):
        load_opener(tmp_path / "other", b"not the passphrase")


def test_a_key_directory_that_is_none_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(NoBackupKey, match=r"authority\.crt is missing"):
        load_opener(tmp_path, b"x" * 16)
    (tmp_path / "authority.crt").write_bytes((site.away / "authority.crt").read_bytes())
    with pytest.raises(NoBackupKey, match="holds no backup key"):
        load_opener(tmp_path, b"x" * 16)
    (tmp_path / "backup.key").write_bytes(b"rubbish")
    (tmp_path / "backup.key").chmod(0o600)
    with pytest.raises(KeyFileError, match="not a key file"):
        load_opener(tmp_path, b"x" * 16)
    (tmp_path / "authority.crt").write_bytes(b"rubbish")
    with pytest.raises(NoBackupKey, match="no certificate"):
        load_opener(tmp_path, b"x" * 16)


def test_a_backup_key_is_not_overwritten(site: Site) -> None:
    hospital = site.settings.tenant("hospital")
    with pytest.raises(TargetNotEmpty, match="name another directory"):
        backup.create_backup_key(site.settings, hospital, site.away, site.passphrase)


def test_a_passphrase_that_others_may_read_is_refused(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "open.passphrase"
    path.write_text("a passphrase for everybody\n")
    path.chmod(0o644)
    with pytest.raises(KeyFileUnfit, match="chmod 600"):
        backup.opener(site.away, path)


def test_without_a_backup_key_no_backup_is_made(site: Site) -> None:
    laboratory = site.settings.tenant("laboratory")
    with pytest.raises(NoBackupKey, match="medportal backup key"):
        backup.create(
            site.settings,
            laboratory,
            site.portal.registry.database("laboratory"),
            backup.Places(site.directory / "a", site.directory / "b"),
            utcnow(),
            lambda counts: None,
        )


def test_the_machine_itself_cannot_open_its_backups(site: Site) -> None:
    """What stays at home is the public half."""
    home = site.settings.home("hospital")
    assert sorted(path.name for path in (home / "backup").iterdir()) == ["backup.pub"]


def test_a_stream_longer_than_a_chunk_is_read_in_pieces(site: Site) -> None:
    big = File("pki/big", 0o600, secrets.token_bytes(3 * CHUNK + 5))
    path = forged(site, KEYS, [MANIFEST, big])
    assert check(path, site.opener()).counts.files == 1
