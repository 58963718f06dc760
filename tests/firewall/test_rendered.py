"""What is rendered: the same bytes each time, as kept in ``golden``, and what nft takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from seven import POLICY

from medportal.firewall.render import Format, render

GOLDEN = Path(__file__).parent / "golden"
EACH = pytest.mark.parametrize("name", POLICY.hosts)


def golden(name: str, form: Format) -> Path:
    """Return where the rendered text of a host of the shipped policy is kept."""
    return GOLDEN / f"{name}.{'nft' if form == Format.NFT else 'ufw.sh'}"


@EACH
@pytest.mark.parametrize("form", Format)
def test_a_host_of_the_shipped_policy_renders_as_kept(name, form):
    # MEDPORTAL_WRITE_GOLDEN=1 writes the files anew, for a person to read their difference.
    text = render(POLICY, POLICY.hosts[name], form)
    file = golden(name, form)
    if os.environ.get("MEDPORTAL_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def test_no_file_is_kept_for_a_host_that_is_gone():
    wanted = {golden(name, form) for name in POLICY.hosts for form in Format}
    assert set(GOLDEN.iterdir()) == wanted


@pytest.mark.parametrize("form", Format)
def test_rendering_depends_on_no_hash_order(form):
    program = [sys.executable, "-m", "medportal.firewall", "render", "--host", "router"]
    texts = {
        subprocess.run(
            [*program, "--format", str(form)],
            check=True,
            capture_output=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert texts == {render(POLICY, POLICY.router, form).encode()}


@EACH
def test_no_line_of_the_log_begins_longer_than_iptables_writes(name):
    for form in Format:
        prefixes = render(POLICY, POLICY.hosts[name], form).split("prefix ")[1:]
        assert prefixes
        for prefix in prefixes:
            assert len(prefix.split('"')[1]) <= 29
            assert prefix.split('"')[1].startswith(f"{name} ")
