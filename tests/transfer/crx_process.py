"""One sender or receiver as a process of its own.

send|receive STATE INSTITUTION [PORT [SECONDS]]; its clock is ahead by so many seconds.
"""

import sys
from datetime import timedelta
from pathlib import Path

from medportal.core import clock

role, state, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
port = sys.argv[4] if len(sys.argv) > 4 else "4000"
ahead = timedelta(seconds=float(sys.argv[5]) if len(sys.argv) > 5 else 0)
true_now = clock.utcnow
# Before anything else is imported: all of the product takes the time from here.
clock.utcnow = lambda: true_now() + ahead

# ruff: noqa: E402
from medportal.keys import TenantKeys
from medportal.logs import configure_logging
from medportal.ops.transfer import RECEIVER_GROUPS, SENDER_GROUPS
from medportal.tenancy.engines import make_engine
from medportal.tenancy.loader import load_tenants
from medportal.transfer.commands import run_receiver, run_sender
from medportal.transfer.receiver import ReceiverSettings

configure_logging()
tenants = Path(__file__).parents[2] / "tenants"
ports = {"mail_port": "2525", "hospital_port": "8443", "laboratory_port": "8444"}
variables = {"state": str(state), "exchange_port": port, **ports}
groups = SENDER_GROUPS if role == "send" else RECEIVER_GROUPS
keys = TenantKeys(load_tenants(tenants, [name], variables)[name], state / name, groups)
engine = make_engine(f"sqlite:///{state / name}/portal.sqlite")
if role == "send":
    run_sender(keys, engine)
else:
    run_receiver(
        keys,
        engine,
        # An opener would take the time from the system.
        ReceiverSettings(name, f"127.0.0.1:{port}", openers=0 if ahead else 1),
        lambda host, number: print("listening", number, flush=True),
    )
