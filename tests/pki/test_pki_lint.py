"""What a linter of X.509 and openssl think of everything that an authority makes, a rollover too.

Two findings of the linter are excepted, each with its reason; a third one would fail.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.core.clock import utcnow
from medportal.pki import ca as authority
from medportal.pki import profiles as profiles_module
from medportal.pki import rollover
from medportal.pki.layout import Layout
from medportal.pki.passphrases import create_passphrases
from medportal.pki.profiles import Purpose

EXCEPTED = {
    # RFC 5280 section 4.2.1.6 wants scheme and scheme-specific part, which a URN has (RFC 8141);
    # the linter's URI check accepts what has an authority ("//host") only.
    "pkix.invalid_uri_syntax",
}
#: ITU-T X.667: arcs under 2.25 have 128 bits. The linter's decoder stops at 32 and then checks
#: nothing of the extension, so what is linted has the arc for documentation (RFC 5612) instead.
SHORT_ARC = "1.3.6.1.4.1.32473"


def tool(name):
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(name, path=beside)
    if found is None and os.environ.get("MEDPORTAL_REQUIRE_ALL"):
        pytest.fail(f"not installed here: {name}")
    return found or pytest.skip(f"not installed here: {name}")


def run(*command):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, check=False
    )


def issue_all(layout, secrets, now):
    for purpose in Purpose:
        group = profiles_module.Group.EDGE if purpose is Purpose.EDGE else None
        profile = authority.load_profiles()[purpose]
        authority.issue(
            layout.root,
            purpose,
            dns_names=["hospital.localhost"] if purpose is Purpose.WEB else (),
            ca_passphrase=secrets["ca"],
            group_passphrase=secrets[group or profile.group],
            now=now,
        )


def make(home):
    """An authority that rolled over today, with every certificate, and something withdrawn."""
    groups = list(profiles_module.Group)
    secrets, now = create_passphrases(home / "secrets", groups), utcnow()
    layout, names = Layout(home / "pki"), ["hospital.localhost"]
    authority.init_ca(
        layout.root, "hospital", {"en": "Hospital"}, secrets["ca"], now, permitted_dns=names
    )
    issue_all(layout, secrets, now)
    [gone] = [i for i in authority.inventory(layout.root) if i.purpose is Purpose.RECEIPT]
    rollover.roll(layout.root, ca_passphrase=secrets["ca"], now=now)
    authority.revoke(
        layout.root,
        gone.serial,
        ca_passphrase=secrets["ca"],
        now=now,
        reason=x509.ReasonFlags.key_compromise,
        since=now - timedelta(minutes=1),
    )
    issue_all(layout, secrets, now)
    return layout


def certificates(layout):
    [former] = authority.former_layouts(layout)
    files = [layout.ca_certificate, layout.link, former.ca_certificate, former.back]
    return [*files, *(layout.key(purpose) for purpose in Purpose)]


def pem_of(path, target):
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    target.write_bytes(leaf.public_bytes(Encoding.PEM))
    return target


def findings(answer):
    said = json.loads(answer.stdout)
    return {each["code"] for result in said["results"] for each in result["finding_descriptions"]}


def test_the_linter_finds_nothing(tmp_path, monkeypatch):
    lint, lint_list = tool("lint_pkix_cert"), tool("lint_crl")
    monkeypatch.setattr(profiles_module, "ARC", SHORT_ARC)
    layout = make(tmp_path)
    for path in certificates(layout):
        one = pem_of(path, tmp_path / "one.pem")
        answer = run(lint, "lint", "-s", "WARNING", "-f", "JSON", one)
        assert findings(answer) <= EXCEPTED, (path.name, answer.stdout)
    for each in (layout, *authority.former_layouts(layout)):
        answer = run(
            *(lint_list, "lint", "-t", "CRL", "-p", "PKIX", "-s", "WARNING", "-f", "JSON"),
            *("--document-format", "DER", each.crl),
        )
        assert findings(answer) == set(), answer.stdout + answer.stderr


def test_the_linter_finds_what_is_wrong(tmp_path):
    """The control: it does complain of a certificate that is not as it should be."""
    lint = tool("lint_pkix_cert")
    layout = make(tmp_path)
    one = pem_of(layout.key(Purpose.WEB), tmp_path / "one.pem")
    assert not findings(run(lint, "lint", "-s", "WARNING", "-f", "JSON", one)) <= EXCEPTED


def test_openssl_follows_the_rollover(tmp_path):
    """With the old authority alone, over the link; with the new one alone; both ways, strictly."""
    openssl = tool("openssl")
    layout = make(tmp_path)
    [former] = authority.former_layouts(layout)
    lists = tmp_path / "lists.pem"
    lists.write_bytes(
        b"".join(authority.read_crl(e.root).public_bytes(Encoding.PEM) for e in (layout, former))
    )

    def verify(anchor, leaf, *more):
        strict = ("-x509_strict", "-check_ss_sig", "-crl_check_all", "-CRLfile", lists)
        return run(openssl, "verify", *strict, "-CAfile", anchor, *more, leaf)

    link = ("-untrusted", layout.link)
    # OpenSSL before 3.5 knows no ML-DSA.
    for purpose in set(Purpose) - {Purpose.HEAD_PQ}:
        leaf = layout.key(purpose)
        assert verify(layout.ca_certificate, leaf).returncode == 0
        assert verify(former.ca_certificate, leaf, *link).returncode == 0
        assert verify(former.ca_certificate, leaf).returncode != 0
    web = layout.key(Purpose.WEB)
    assert verify(former.ca_certificate, web, *link, "-purpose", "sslserver").returncode == 0
    assert verify(former.ca_certificate, web, *link, "-purpose", "sslclient").returncode != 0
    for each in authority.issued(layout.root):
        if "head-pq" in each.subject.rfc4514_string() or not _is_old(each, former):
            continue
        path = tmp_path / "old.pem"
        path.write_bytes(each.public_bytes(Encoding.PEM))
        answer = verify(layout.ca_certificate, path, "-untrusted", former.back)
        if "receipt" in each.subject.rfc4514_string():
            assert "certificate revoked" in answer.stderr
        else:
            assert answer.returncode == 0, answer.stderr


def _is_old(leaf, former):
    return rollover.issued_by(leaf, authority.read_ca(former.root)) is not None


def test_openssl_reads_every_file(tmp_path):
    openssl = tool("openssl")
    layout = make(tmp_path)
    for path in certificates(layout):
        one = pem_of(path, tmp_path / "one.pem")
        text = run(openssl, "x509", "-in", one, "-noout", "-text")
        assert "urn:medportal:institution:hospital" in text.stdout, text.stderr
        assert run(openssl, "asn1parse", "-in", one).returncode == 0
    assert run(openssl, "crl", "-inform", "DER", "-in", layout.crl, "-noout").returncode == 0
