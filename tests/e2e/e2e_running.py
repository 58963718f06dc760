"""The demonstration, started and stopped as a newcomer does it."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240


@dataclass
class Demonstration:
    """A running demonstration."""

    state: Path
    ports: list[int]
    process: subprocess.Popen
    log: Path

    @property
    def accounts(self) -> list[dict[str, str]]:
        return json.loads((self.state / "demo" / "accounts.json").read_text("utf-8"))

    def account(self, tenant: str, role: str, nth: int = 0) -> dict[str, str]:
        return [a for a in self.accounts if (a["tenant"], a["role"]) == (tenant, role)][nth]

    def url(self, tenant: str) -> str:
        port = self.ports[("hospital", "laboratory").index(tenant)]
        return f"https://{tenant}.localhost:{port}"

    def command(self, *words: str) -> subprocess.CompletedProcess:
        """Run the command line on this demonstration."""
        return subprocess.run(
            [*medportal(self.state), *words],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
        )


def medportal(state: Path) -> list[str]:
    program = [sys.executable, "-m", "medportal.cli", "--config", str(ROOT / "development.ini")]
    return [*program, "--set", f"state_dir={state}"]


def start(state: Path, ports: list[int], log: Path) -> Demonstration:
    """Start the supervisor and wait until it says that it is ready."""
    hospital, laboratory, exchange, mail = (str(port) for port in ports)
    with log.open("a") as output:
        process = subprocess.Popen(
            [
                *medportal(state),
                "run",
                "--hospital-port",
                hospital,
                "--laboratory-port",
                laboratory,
                "--exchange-port",
                exchange,
                "--mail-port",
                mail,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    demonstration = Demonstration(state, ports, process, log)
    deadline = time.monotonic() + START_SECONDS
    while "Ready." not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("the demonstration did not start:\n" + log.read_text()[-4000:])
        time.sleep(0.2)
    return demonstration


def stop(demonstration: Demonstration) -> int:
    """Stop with SIGTERM; return the exit status."""
    demonstration.process.send_signal(signal.SIGTERM)
    return demonstration.process.wait(timeout=40)
