"""Loading with a way back: confirmed, run out, and with whoever should take back killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import netns
import pytest
from seven import SHIPPED

#: A table of ours as somebody left it, and one of somebody else's.
FORMER = """
table inet medportal { chain input { type filter hook input priority 0; tcp dport 81 drop; }; }
table ip other { chain input { type filter hook input priority 5; tcp dport 82 drop; }; }
"""
ROOT = Path(__file__).parents[2]
#: More than any of this takes.
PATIENCE = 30.0


class Machine:
    """A host named hosf on which an operator works, and a neighbour that connects to it."""

    def __init__(self, net: netns.Net, state: Path) -> None:
        self.space, self.neighbour, self.state = net.add("hosf"), net.add("near"), state
        net.wire(self.space, "eth0", self.neighbour, "eth0")
        netns.addresses(self.space, "eth0", "10.0.0.4/24")
        netns.addresses(self.neighbour, "eth0", "10.0.0.77/24")
        self.space.listen("0.0.0.0", 22)
        self.space.nft(FORMER)
        self.before = self.rules()

    def rules(self) -> str:
        """Return everything that nftables holds, without counters, table by table.

        nft lists tables in the order in which they were made; ours is made anew.
        """
        listed = self.space.run("nft", "-s", "list", "ruleset")
        return "".join(sorted(f"table {one.strip()}\n" for one in listed.split("table ")[1:]))

    def words(self, *words: str) -> list[str]:
        """Return a command of medportal on this machine."""
        state = ["--state", str(self.state)]
        return self.space.command(sys.executable, "-m", "medportal.firewall", *words, *state)

    def do(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Give a command and wait for its end."""
        return subprocess.run(
            self.words(*words), capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE
        )

    def apply(self, seconds: int, *more: str) -> subprocess.CompletedProcess[str]:
        """Load the rules of hosf, to be confirmed."""
        options = ("--policy", str(SHIPPED), "--host", "hosf", "--confirm-within", str(seconds))
        return self.do("apply", *options, *more)

    def can_enter(self) -> bool:
        """Tell whether the operator's way in is open, which the rules of hosf close."""
        return self.neighbour.connect("10.0.0.4", 22).startswith("from")

    def reverter(self) -> int:
        """Return the process that would take back."""
        return int((self.state / "reverter.pid").read_text("ascii"))

    def wait_for_rules(self, wanted: str) -> None:
        """Wait until nftables holds this, and fail where it never does."""
        until = time.monotonic() + PATIENCE
        while self.rules() != wanted and time.monotonic() < until:
            time.sleep(0.1)
        assert self.rules() == wanted


def gone(process: int) -> bool:
    """Wait until a process is gone; tell whether it is."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def machine(want_present, tmp_path) -> Iterator[Machine]:
    """Give a machine; whatever still waits there is settled at the end."""
    want_present(not netns.missing(), netns.missing())
    with netns.net() as net:
        made = Machine(net, tmp_path / "state")
        assert made.can_enter()
        yield made
        made.do("revert")
        if (made.state / "reverter.pid").exists():
            assert gone(made.reverter())


def test_without_a_time_rules_are_only_checked(machine):
    done = machine.do("apply", "--policy", str(SHIPPED), "--host", "hosf")
    assert done.returncode == 0
    assert "Nothing is loaded" in done.stdout
    assert machine.rules() == machine.before


def test_confirmed_rules_stay_and_nothing_waits_to_take_them_back(machine):
    assert machine.apply(600, "--background").returncode == 0
    assert not machine.can_enter()
    assert machine.do("confirm").returncode == 0
    assert gone(machine.reverter())
    assert not machine.can_enter()
    assert "table ip other" in machine.rules()
    assert "waits" not in machine.do("status").stdout
    assert machine.do("confirm").returncode == 2


def test_rules_that_nobody_confirms_go_and_the_former_ones_are_back(machine):
    assert machine.apply(5, "--background").returncode == 0
    assert machine.rules() != machine.before
    assert not machine.can_enter()
    machine.wait_for_rules(machine.before)
    assert machine.can_enter()


def test_where_there_was_no_table_there_is_none_again(machine):
    machine.space.run("nft", "delete", "table", "inet", "medportal")
    before = machine.rules()
    assert machine.apply(600, "--background").returncode == 0
    assert machine.do("revert").returncode == 0
    assert machine.rules() == before


def test_the_connection_that_gave_the_command_may_die(machine):
    options = ("--policy", str(SHIPPED), "--host", "hosf", "--confirm-within", "5")
    # Whoever runs these tests may ignore SIGHUP (nohup does), and that is passed on.
    shell = subprocess.Popen(
        ["env", "--default-signal=HUP", *machine.words("apply", *options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    assert "are loaded" in shell.stdout.readline()
    # What sshd and the kernel do to everything of a session whose terminal is gone.
    os.killpg(shell.pid, signal.SIGHUP)
    assert shell.wait(PATIENCE) == -signal.SIGHUP
    shell.stdout.close()
    machine.wait_for_rules(machine.before)
    assert machine.can_enter()


def test_the_waiting_command_takes_back_where_the_reverter_is_killed(machine):
    options = ("--policy", str(SHIPPED), "--host", "hosf", "--confirm-within", "5")
    shell = subprocess.Popen(
        machine.words("apply", *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert shell.stdout is not None
    assert "are loaded" in shell.stdout.readline()
    os.kill(machine.reverter(), signal.SIGKILL)
    assert "rules of before are back" in shell.communicate(timeout=PATIENCE)[1]
    assert shell.returncode == 2
    assert machine.rules() == machine.before


@pytest.mark.parametrize("word", ["status", "confirm"])
def test_where_both_are_killed_the_next_command_takes_back_what_is_overdue(machine, word):
    assert machine.apply(5, "--background").returncode == 0
    os.kill(machine.reverter(), signal.SIGKILL)
    time.sleep(6)
    assert machine.rules() != machine.before
    done = machine.do(word)
    assert machine.rules() == machine.before
    assert ("too late" in done.stderr) == (word == "confirm")


def test_a_second_apply_is_refused_while_the_first_waits(machine):
    assert machine.apply(600, "--background").returncode == 0
    loaded = machine.rules()
    done = machine.apply(600, "--background")
    assert done.returncode == 2
    assert "wait to be confirmed" in done.stderr
    assert machine.rules() == loaded


def test_of_two_applies_at_once_one_loads(machine):
    options = ("--policy", str(SHIPPED), "--host", "hosf", "--confirm-within", "600")
    both = [
        subprocess.Popen(
            machine.words("apply", *options, "--background"),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert sorted(one.wait(PATIENCE) for one in both) == [0, 2]
    assert machine.do("revert").returncode == 0
    assert machine.rules() == machine.before


def test_rules_in_use_can_be_kept_as_the_former_ones(machine):
    # Addresses that a limit counts this moment stand in the table with times that run out.
    assert machine.apply(600, "--background").returncode == 0
    assert machine.do("confirm").returncode == 0
    machine.space.listen("0.0.0.0", 8443)
    assert machine.neighbour.connect("10.0.0.4", 8443) == "from 10.0.0.77"
    assert machine.apply(600, "--background").returncode == 0
    assert machine.do("revert").returncode == 0
    assert machine.neighbour.connect("10.0.0.4", 8443) == "from 10.0.0.77"


def test_rules_that_nft_refuses_change_nothing(machine):
    program = (
        "import sys; from pathlib import Path; from medportal.firewall import apply, errors\n"
        "try: apply.apply('table inet medportal { chain', 'hosf', 60, Path(sys.argv[1]))\n"
        "except errors.FirewallError as error: print(error)"
    )
    told = machine.space.run(sys.executable, "-c", program, str(machine.state))
    assert "nft refuses the rules" in told
    assert machine.rules() == machine.before
    assert "No rules wait" in machine.do("status").stdout


def test_the_rules_of_another_host_are_refused(machine):
    options = ("--policy", str(SHIPPED), "--host", "hosb", "--confirm-within", "60")
    done = machine.do("apply", *options)
    assert done.returncode == 2
    assert "this machine is not hosb" in done.stderr
    assert machine.rules() == machine.before
