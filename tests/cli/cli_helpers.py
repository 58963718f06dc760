"""Commands of medportal, and what they leave behind.

Most run inside the process of the tests, by the same options, words and exit status: a start of
Python and its imports takes longer than what they do. What stays until a signal, or is signalled,
is a process of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from installation import ROOT, Installation

from medportal.cli import main
from medportal.core.ids import new_id

HOSPITAL = "hospital"
SECONDS = 120
STOPPING = Path(__file__).with_name("command_that_stops.py")


#: What goes on until a signal if it is not refused; ``portal`` becomes another program.
STAY = {"jobs", "portal", "run", "transfer"}


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def is_for_people(line: str) -> bool:
    """Tell whether a line of standard error is one that a refusal may say."""
    return line.startswith(("medportal: ", "Usage: ", "Try ", "Error: "))


@dataclass
class Commands:
    """An installation, and the ini file with which the command line finds it."""

    portal: Installation
    directory: Path

    @property
    def ini(self) -> Path:
        return self.directory / "site.ini"

    @property
    def home(self) -> Path:
        return self.portal.settings.home(HOSPITAL)

    def begin(self, patients: int = 60) -> None:
        """Write the ini file, and give some patients a key."""
        raw = self.portal.raw
        lines = ["[app:main]", "use = egg:medportal", *(f"{key} = {raw[key]}" for key in raw)]
        self.ini.write_text("\n".join(lines) + "\n", "utf-8")
        vault = self.portal.keys(HOSPITAL).vault
        with self.portal.session(HOSPITAL) as session, session.begin():
            for _ in range(patients):
                vault.seal_note(session, new_id(), "test", new_id(), b"words")

    def close(self) -> None:
        self.portal.registry.dispose()
        self.portal.app.registry["tenants"].dispose()

    def passphrase(self, group: str) -> Path:
        return self.home / "secrets" / f"{group}.passphrase"

    def command(self, *words: Any, as_json: bool = True) -> list[str]:
        flags = ["--json"] if as_json else []
        program = [sys.executable, "-m", "medportal.cli", "--config", str(self.ini), *flags]
        return [*program, *map(str, words)]

    def run(self, *words: Any, as_json: bool = True) -> Done:
        """Run a command to its end, without a terminal; inside this process if it may."""
        if words[0] in STAY:
            return self.run_as_process(*words, as_json=as_json)
        flags = ["--json"] if as_json else []
        # The command narrows it for its process, which is ours now.
        umask = os.umask(0o077)
        try:
            found = CliRunner().invoke(main, ["--config", str(self.ini), *flags, *map(str, words)])
        finally:
            os.umask(umask)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Done(found.exit_code, found.stdout, found.stderr)

    def run_as_process(self, *words: Any, as_json: bool = True) -> Done:
        """Run a command to its end as operators do."""
        done = subprocess.run(
            self.command(*words, as_json=as_json),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def rows(self, *words: Any) -> list[dict[str, Any]]:
        """Run a command that succeeds; return what it says as JSON."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refusal(self, *words: Any) -> str:
        """Run a command that is refused; return the words, which are no trace."""
        done = self.run(*words)
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        unknown = [line for line in done.stderr.splitlines() if line and not is_for_people(line)]
        assert unknown == []
        return done.stderr

    def stopped_at(self, word: str, number: int, *words: Any) -> tuple[int, str]:
        """Run a command that signals itself when it has said a word; return status and words."""
        program = [sys.executable, str(STOPPING), str(int(number)), word]
        done = subprocess.run(
            [*program, "--config", str(self.ini), "--json", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=SECONDS,
            cwd=ROOT,
        )
        assert word in done.stderr, done.stderr
        return done.returncode, done.stderr


@contextmanager
def put_aside(path: Path) -> Iterator[Path]:
    """Take a file away, and put it back as it was."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)
