"""Loading rules with a way back, so that no operator locks themselves out.

The former table is kept, a detached process that brings it back is started, then the new one is
loaded in one transaction. Whoever confirms in time stops that process. It needs no systemd and
no terminal. Should it be killed, the command that still waits brings the former rules back, and
if that was killed too, the next ``medportal firewall`` command that looks (``status``).
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from medportal.firewall import pending
from medportal.firewall.errors import FirewallError
from medportal.firewall.nft import TABLE
from medportal.firewall.pending import Pending
from medportal.firewall.rules import HostRules

#: How often a waiting process looks whether somebody confirmed.
_LOOK = 0.2
_PROGRAM_SECONDS = 30
#: Ends a table whether it is there or not.
_CLEAR = f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _run(program: str, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    found = shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise FirewallError(f"{program} is not installed")
    try:
        return subprocess.run(  # noqa: S603  (a system's program, no shell)
            [found, *words], capture_output=True, text=True, timeout=_PROGRAM_SECONDS, input=stdin
        )
    except subprocess.TimeoutExpired as error:
        raise FirewallError(f"{program} does not end") from error


def _load(text: str, *, only_check: bool = False) -> None:
    words = ["-c", "-f", "-"] if only_check else ["-f", "-"]
    done = _run("nft", *words, stdin=text)
    if done.returncode:
        raise FirewallError(f"nft refuses the rules: {_first_line(done.stderr)}")


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no reason given"


def check(text: str) -> None:
    """Let nft check rules without loading them. Raises ``FirewallError``."""
    _load(text, only_check=True)


def loaded() -> str:
    """Return the table that is loaded now, without its counters; empty for none."""
    listed = _run("nft", "-j", "list", "tables")
    if listed.returncode:
        raise FirewallError(f"nft cannot list tables: {_first_line(listed.stderr)}")
    tables = [one["table"] for one in json.loads(listed.stdout)["nftables"] if "table" in one]
    if not any((one["family"], one["name"]) == ("inet", TABLE) for one in tables):
        return ""
    # Stateless: addresses counted this moment belong to no rule.
    done = _run("nft", "-s", "list", "table", "inet", TABLE)
    if done.returncode:
        raise FirewallError(f"nft cannot list its table: {_first_line(done.stderr)}")
    return done.stdout


def require_machine(rules: HostRules) -> None:
    """Refuse rules of another host than this machine. Raises ``FirewallError``.

    A host whose address is leased is known by none, and passes.
    """
    done = _run("ip", "-j", "-4", "address")
    if done.returncode:
        raise FirewallError(f"ip cannot list addresses: {_first_line(done.stderr)}")
    here = {info["local"] for link in json.loads(done.stdout) for info in link.get("addr_info", ())}
    missing = [str(address) for address in rules.own_addresses if str(address) not in here]
    if missing:
        raise FirewallError(
            f"this machine is not {rules.host.name}: it does not have {', '.join(missing)}"
        )


def apply(text: str, host: str, seconds: int, state: Path) -> Pending:
    """Load rules that go again after ``seconds`` unless confirmed.

    Raises ``FirewallError``; then nothing was changed.
    """
    with pending.locked(state):
        waiting = pending.read(state)
        if waiting:
            raise FirewallError(
                f"rules of {waiting.host} wait to be confirmed: medportal firewall confirm or "
                "revert first"
            )
        before = loaded()
        check(text)
        check(_CLEAR + before)
        made = pending.new(host, seconds, before)
        pending.write(state, made)
        try:
            _start_reverter(state, made)
            _load(text)
        except FirewallError:
            pending.settle(state, made, kept=False)
            raise
    return made


def _start_reverter(state: Path, made: Pending) -> None:
    command = [sys.executable, "-m", "medportal.firewall.reverter", str(state), made.token]
    done = subprocess.run(  # noqa: S603  (this program, another module)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_PROGRAM_SECONDS,
    )
    if done.returncode:
        raise FirewallError("what would bring the former rules back does not start")


def confirm(state: Path) -> Pending:
    """Keep the rules that wait. Raises ``FirewallError`` where none do, or too late."""
    with pending.locked(state):
        waiting = _required(state)
        if waiting.left > 0:
            pending.settle(state, waiting, kept=True)
            return waiting
        _bring_back(state, waiting)
    raise FirewallError("too late: the rules of before are back")


def revert(state: Path) -> Pending:
    """Bring back the rules of before, at once. Raises ``FirewallError`` where none wait."""
    with pending.locked(state):
        waiting = _required(state)
        _bring_back(state, waiting)
    return waiting


def status(state: Path) -> Pending | None:
    """Return what waits to be confirmed; what is overdue is taken back instead."""
    with pending.locked(state):
        waiting = pending.read(state)
        if waiting and waiting.left <= 0:
            _bring_back(state, waiting)
            return None
        return waiting


def watch(state: Path, token: str) -> bool:
    """Wait until rules are confirmed or taken back, and take them back when their time is up.

    Bounded by that time. Returns whether they were confirmed.
    """
    while True:
        waiting = pending.read(state)
        if waiting is None or waiting.token != token:
            return pending.was_kept(state, token)
        if waiting.left > 0:
            time.sleep(min(_LOOK, waiting.left))
            continue
        with pending.locked(state):
            # Somebody may have been quicker between the look and the lock.
            if pending.read(state) == waiting:
                _bring_back(state, waiting)


def _required(state: Path) -> Pending:
    waiting = pending.read(state)
    if waiting is None:
        raise FirewallError("no rules wait to be confirmed")
    return waiting


def _bring_back(state: Path, waiting: Pending) -> None:
    _load(_CLEAR + waiting.before)
    pending.settle(state, waiting, kept=False)
