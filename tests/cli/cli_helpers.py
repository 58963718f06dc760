"""Commands of medportal as processes of their own, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installation import ROOT, Installation

from medportal.core.ids import new_id

HOSPITAL = "hospital"
SECONDS = 120


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

    def run(self, *words: Any, as_json: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words, as_json=as_json),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )

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
        lines = done.stderr.splitlines()
        begins = ("medportal: ", "Usage:", "Try ", "Error:")
        # A question stands without an end of its line before the answer.
        assert all(line == "" or line.startswith(begins) or "[y/N]:" in line for line in lines)
        return done.stderr

    def stopped_at(self, word: str, number: int, *words: Any) -> tuple[int, str]:
        """Run a command, signal it when it has said a word; return status and what it said."""
        process = subprocess.Popen(
            self.command(*words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # Whoever runs the tests may ignore Ctrl-C, and children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        watch = threading.Timer(SECONDS, process.kill)
        watch.start()
        said = []
        try:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if word in line and process.poll() is None:
                    os.kill(process.pid, number)
            process.wait()
        finally:
            watch.cancel()
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
        return process.returncode, "".join(said)


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
