"""A PostgreSQL server in a temporary directory, where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Return the directory of the newest server's programs, as Debian installs them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Run a server that listens on a socket; give the address of its empty database.

    It waits for its disk, as a real one does (``fsync`` is on).
    """
    home = Path(tempfile.mkdtemp(prefix="medportal-bench-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(home, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(directory / program), *arguments]
        subprocess.run(command, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)

    data = str(home / "data")
    # The server waits for its disk; that the empty database is on it does not matter to a bench.
    run("initdb", "-N", "-D", data, "-A", "trust", "-U", "portal", "-E", "UTF8")
    options = f"-k {home} -c listen_addresses=''"
    run("pg_ctl", "-D", data, "-w", "-s", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://portal@/postgres?host={home}"
    finally:
        run("pg_ctl", "-D", data, "-w", "-s", "-m", "immediate", "stop")
        shutil.rmtree(home)
