"""The document server of a backend, in the runner: SecantusDB in MongoDB's place.

No MongoDB is packaged for the systems that this is tried on. SecantusDB speaks its protocol over
its storage engine, is third-party and beta, and is run as a process, never imported. Usage, as
root on the backend: ``python documents.py DATABASE``. Makes an administrator and the portal's user,
and leaves the server running for its own system user.
"""

import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient

HOME = Path("/var/lib/medportal-documents")
CA = "/etc/medportal/database-ca.crt"
USER = "medportal-documents"
START_SECONDS = 60


def start(auth: bool) -> int:
    """Start the server as its user; return its process once it takes connections."""
    program = Path(sys.executable).with_name("secantusd-py")
    command = [str(program), "--config", "empty.toml", "--host", "127.0.0.1", "--port", "27017"]
    command += ["--storage-path", "data", "--cache-size", "64M", "--sync-on-commit"]
    command += ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"]
    with (HOME / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, *(["--auth"] if auth else [])],
            cwd=HOME,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=USER,
            group=USER,
            extra_groups=[],
            start_new_session=True,
        )
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", 27017), 1).close()
            return process.pid
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit((HOME / "log").read_text("utf-8")[-2000:]) from None
            time.sleep(0.05)


def client(**options: Any) -> MongoClient[dict[str, Any]]:
    """Return a client over verified TLS."""
    return MongoClient(
        "mongodb://127.0.0.1:27017/?replicaSet=secantus", tls=True, tlsCAFile=CA, **options
    )


def main(database: str) -> None:
    """Set up and start."""
    (HOME / "empty.toml").touch()
    password, root = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    pid = start(auth=False)
    with client() as opened:
        opened.admin.command("createUser", "root", pwd=root, roles=["root"])
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    start(auth=True)
    roles = [{"role": "readWrite", "db": database}]
    with client(username="root", password=root, authSource="admin") as opened:
        opened[database].command(
            "createUser", "portal", pwd=password, roles=roles, mechanisms=["SCRAM-SHA-256"]
        )
    file = Path("/root/database/documents.password")
    file.write_text(password + "\n", "utf-8")
    file.chmod(0o600)
    assert pwd.getpwnam(USER).pw_uid


if __name__ == "__main__":
    main(sys.argv[1])
