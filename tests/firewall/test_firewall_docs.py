"""docs/firewall.md says what `medportal firewall check` says today."""

import os
from pathlib import Path

from click.testing import CliRunner
from seven import SHIPPED

from medportal.firewall.commands import firewall

DOCUMENT = Path(__file__).parents[2] / "docs/firewall.md"
BEGIN, END = "<!-- begin check -->\n", "<!-- end check -->"


def test_the_words_in_the_document_are_those_of_the_command():
    done = CliRunner().invoke(firewall, ["check", "--policy", str(SHIPPED)])
    assert done.exit_code == 0
    words = "".join(f"- {line}\n" for line in done.output.splitlines())
    text = DOCUMENT.read_text("utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    current = f"{head}{BEGIN}{words}{END}{tail}"
    if os.environ.get("MEDPORTAL_WRITE_GOLDEN"):
        DOCUMENT.write_text(current, "utf-8")
    assert DOCUMENT.read_text("utf-8") == current


def test_a_problem_is_exit_status_1(tmp_path):
    # "new_per_second" stands before the burst of the service that everybody may open.
    text = SHIPPED.read_text("utf-8").replace("new_per_second = 20\nburst = 100\n", "", 1)
    (tmp_path / "policy.toml").write_text(text, "utf-8")
    done = CliRunner().invoke(firewall, ["check", "--policy", str(tmp_path / "policy.toml")])
    assert done.exit_code == 1
    assert "problem: tcp 8443 (web) at hosf is open to every address without a limit" in done.output
