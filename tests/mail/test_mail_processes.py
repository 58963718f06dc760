"""Several senders, real processes, kill -9: each mail once, or known for what it is."""

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from mail_servers import mail_of

from medportal.core.ids import new_id
from medportal.mail.models import MailState
from medportal.mail.outbox import LEASE, queue
from medportal.mail.sending import Sender, send_due

PROGRAM = Path(__file__).with_name("sender_process.py")
PATH = os.pathsep.join([str(PROGRAM.parents[1] / "functional"), str(PROGRAM.parents[2])])
NEVER = ("never", "1")
#: A sender's clock runs while it works.
SOON = timedelta(minutes=5)


@pytest.fixture
def start(engine, server, tmp_path, certificate, now):
    """Start a sender; without a second argument it does not die."""
    mail_of(server.port, tmp_path, certificate)
    url = engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=False)

    def run(moment=now, dies=NEVER):
        words = [url, str(server.port), str(tmp_path), str(certificate), moment.isoformat()]
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *words, *dies],
            env={**os.environ, "PYTHONPATH": PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.fixture
def sender(sending, begin):
    """Give a sender in this process."""
    return Sender(new_id(), sending, lambda *_args: "token", begin)


def end(process):
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def message_ids(behaviour):
    return Counter(str(taken.message["Message-ID"])[1:33] for taken in behaviour.taken)


def test_senders_at_once_send_each_mail_exactly_once(start, posted, behaviour, begin):
    ids = posted(120)
    processes = [start() for _ in range(3)]
    ended = [end(process) for process in processes]
    assert [status for status, _said in ended] == [0, 0, 0], ended
    assert message_ids(behaviour) == Counter(ids)
    with begin() as session:
        found = queue(session)
    assert (found.sent, found.waiting, found.sending) == (120, 0, 0)
    # Nobody logged an address.
    assert not any("mail.example" in said for _status, said in ended)
    # More than one of them had work, or this shows nothing.
    assert sum('"mail sent"' in said for _status, said in ended) > 1


@pytest.mark.parametrize(
    ("point", "twice"),
    [
        ("claim-uncommitted", False),
        ("claimed", False),
        ("accepted", True),
        ("sent-uncommitted", True),
        ("sent", False),
    ],
)
def test_a_sender_is_killed_and_another_goes_on(
    start, sender, posted, behaviour, row, now, point, twice
):
    ids = posted(8)
    status, _said = end(start(dies=(point, "4")))
    assert status == -signal.SIGKILL
    send_due(sender, now)
    # What the dead one held is nobody's before its lease ends.
    held = [mail_id for mail_id in ids if row(mail_id).state == MailState.SENDING]
    assert len(held) == (0 if point in {"claim-uncommitted", "sent"} else 1)
    send_due(sender, now + LEASE + SOON)
    assert {row(mail_id).state for mail_id in ids} == {MailState.SENT}
    assert message_ids(behaviour) == Counter(ids) + (Counter(held) if twice else Counter())
    assert len(held) == 1 or not twice


def test_killed_at_any_moment_while_others_send(start, sender, posted, behaviour, now):
    """From outside, at a moment that nobody chose: nothing is lost."""
    ids = posted(60)
    doomed, others = start(), [start(), start()]
    while len(behaviour.taken) < 10 and doomed.poll() is None:
        pass
    doomed.kill()
    end(doomed)
    assert [end(process)[0] for process in others] == [0, 0]
    send_due(sender, now + LEASE + SOON)
    counts = message_ids(behaviour)
    assert set(counts) == set(ids)
    # At most the one mail that the killed one had in hand came twice, with the same id.
    assert sum(counts.values()) <= len(ids) + 1
