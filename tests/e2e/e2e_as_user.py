"""Run the command line as another system user: ``e2e_as_user.py USER --config INI ...``.

A Python in the home of root cannot be run by another user. So root starts it, loads what the
command will need, and then becomes the other user for good, before anything is opened.
"""

import encodings.idna  # noqa: F401  (loaded by the first look-up of a name)
import importlib
import os
import pwd
import sys
import warnings

#: What the two commands import only when they run, and data that is read once.
LATE = (
    "medportal.config",
    "medportal.ops.transfer",
    "sqlalchemy.dialects.sqlite",
    "sqlite3.dbapi2",
    "plaster_pastedeploy",
    "concurrent.futures.thread",
    "asyncio.unix_events",
)


def become(name: str) -> None:
    """Give up root for good; fail if that did not come about."""
    user = pwd.getpwnam(name)
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ["HOME"] = "/"
    assert os.getresuid() == (user.pw_uid,) * 3


def main() -> None:
    name, *words = sys.argv[1:]
    warnings.simplefilter("ignore")
    # The templates that the tests share compiled are in a directory of root's.
    os.environ.pop("CHAMELEON_CACHE", None)
    for module in LATE:
        importlib.import_module(module)

    from pyramid.paster import get_appsettings

    from medportal import cli
    from medportal.pki.layout import load_profiles
    from medportal.records import catalogue
    from medportal.tenancy.schema import wanted_revision

    get_appsettings(words[words.index("--config") + 1])
    load_profiles()
    catalogue.load()
    wanted_revision()
    become(name)
    cli.main(words)


if __name__ == "__main__":
    main()
