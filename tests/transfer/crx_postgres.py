"""A PostgreSQL server of a test's own, which may be stopped and started again."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.postgres import programs


class Server:
    """A server that listens on a socket in a directory of its own."""

    def __init__(self, directory: Path, home: Path) -> None:
        self._directory, self.home = directory, home
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(home, self._user)
        self._run("initdb", "-N", "-D", str(home / "data"), *("-A", "trust", "-U", "portal"))
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._directory / program), *arguments],
            check=True,
            user=self._user,
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def _ctl(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self.home / "data"), "-w", "-s", *arguments)

    def start(self) -> None:
        options = f"-k {self.home} -c listen_addresses='' -c fsync=off"
        self._ctl("-l", str(self.home / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it as a machine that loses power does: nobody is asked to finish."""
        self._ctl("-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """Make an empty database; return its address."""
        self._run("createdb", "-h", str(self.home), "-U", "portal", "-E", "UTF8", name)
        return f"postgresql://portal@/{name}?host={self.home}"


@contextmanager
def server() -> Iterator[Server]:
    """Run a server; at the end it is stopped and gone."""
    directory = programs()
    assert directory is not None
    home = Path(tempfile.mkdtemp(prefix="medportal-pg-"))
    try:
        made = Server(directory, home)
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(home)


__all__ = ["Server", "programs", "server"]
