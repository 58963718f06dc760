"""A sender in a process of its own, for test_mail_processes; it can be told to die.

Run as ``python sender_process.py URL PORT DIRECTORY CERTIFICATE NOW DIES_AT NTH``. It sends what
is due at NOW until there is nothing more, and kills itself at the NTH time that it gets to the
point DIES_AT, as kill -9 does: no cleanup, no rollback sent.
"""

import os
import signal
import sys
import tomllib
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mail_servers import mail_of
from sqlalchemy.orm import sessionmaker

from medportal.core.ids import new_id
from medportal.logs import configure_logging
from medportal.mail import outbox, sending
from medportal.mail.sending import Sender, send_due
from medportal.mail.smtp import Connection
from medportal.tenancy.engines import make_engine
from medportal.tenancy.parsing import parse
from medportal.web.colour import contrast

POINTS = ("claim-uncommitted", "claimed", "accepted", "sent-uncommitted", "sent")
FILE = Path(__file__).resolve().parents[2] / "tenants" / "hospital.toml"


class Death:
    """Counts down to the end."""

    def __init__(self, point: str, nth: int) -> None:
        self.point = point
        self.left = nth

    def reached(self, point: str) -> None:
        if point != self.point:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def put_in_the_way(death: Death) -> None:
    """Let the sender pass the points; it does nothing else than it does by itself."""
    claim, sent, settle = outbox.claim, outbox.sent, sending._settle
    hand_over, compose = Connection.send, sending.compose

    def claiming(*args):
        held = claim(*args)
        death.reached("claim-uncommitted")
        return held

    def composing(*args):
        death.reached("claimed")
        return compose(*args)

    def handing_over(*args):
        hand_over(*args)
        death.reached("accepted")

    def noting(*args):
        sent(*args)
        death.reached("sent-uncommitted")

    def settling(*args):
        settle(*args)
        death.reached("sent")

    outbox.claim, outbox.sent = claiming, noting
    sending.compose, sending._settle = composing, settling
    Connection.send = handing_over


def main(url: str, port: str, directory: str, certificate: str, now: str, *dies: str) -> None:
    configure_logging()
    put_in_the_way(Death(dies[0], int(dies[1])))
    variables = {"{hospital_port}": "8443", "{mail_port}": "2525", "{exchange_port}": "4000"}
    text = FILE.read_text("utf-8")
    for name, value in variables.items():
        text = text.replace(name, value)
    tenant = parse("hospital.toml", tomllib.loads(text), contrast)
    tenant = replace(tenant, mail=mail_of(int(port), Path(directory), certificate))
    begin = sessionmaker(make_engine(url)).begin
    moment = datetime.fromisoformat(now)
    sender = Sender(new_id(), tenant, lambda *_args: "token", begin)
    while True:
        with begin() as session:
            if not outbox.has_due(session, moment):
                return
        send_due(sender, moment)


if __name__ == "__main__":
    main(*sys.argv[1:])
