"""``python -m deploy.topology``: up, move, exec; what `make topology` calls."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from deploy.topology.demonstration import RUNNING, Account, attach, build, remember
from deploy.topology.network import move
from deploy.topology.plan import PATIENT, load_plan
from deploy.topology.world import WorldError, environment


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.topology", description=__doc__)
    parser.add_argument("--running", type=Path, default=RUNNING, help="the runner's pid file")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="build everything and keep it up until Ctrl-C")
    up.add_argument("--rules", choices=["none", "nft", "ufw"], default="nft")
    mover = verbs.add_parser("move", help="carry the patient to another network")
    mover.add_argument("to", choices=list(load_plan().networks))
    executor = verbs.add_parser("exec", help="run a command on a host")
    executor.add_argument("host", choices=list(load_plan().namespaces))
    executor.add_argument("words", nargs=argparse.REMAINDER)
    said = parser.parse_args()
    try:
        match said.verb:
            case "up":
                return _up(said.running, said.rules)
            case "move":
                print(f"{PATIENT} is at {move(attach(said.running).world, load_plan(), said.to)}")
                return 0
            case _:
                words = [word for word in said.words if word != "--"] or ["bash"]
                command = attach(said.running).world.command(words, said.host)
                terminal = {"TERM": os.environ.get("TERM", "dumb")}
                os.execvpe(command[0], command, environment(terminal))  # noqa: S606
    except WorldError as error:
        print(f"topology: {error}", file=sys.stderr)
        return 1


def _up(file: Path, rules: str) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with build(rules, _say) as built:
        remember(built, file)
        _tell(built.accounts)
        while not stop.wait(1) and built.world.is_alive:
            pass
    file.unlink(missing_ok=True)
    return 0 if stop.is_set() else 1


def _say(line: str) -> None:
    print(line, flush=True)


def _tell(accounts: list[Account]) -> None:
    for account in accounts:
        _say(f"    {account.url}  {account.role:<20}{account.citizen_number}  {account.password}")
    _say("")
    _say("Look at it from another terminal:")
    _say("    make topology-move TO=laboratory        # or hospital, remote: where the patient is")
    run = "    .venv/bin/python -m deploy.topology exec"
    _say(f"{run} patient -- curl -k https://portal.hospital.example:8443/")
    _say(f"{run} hosb -- tail /var/log/medportal-portal.service.log")
    _say(f"{run} router -- nft list ruleset")
    _say(f"{run} hosbs -- bash")
    _say("Ready. Stop with Ctrl-C.")


if __name__ == "__main__":
    sys.exit(main())
