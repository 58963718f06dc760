"""What a patient's page costs the processor: calls, statements and microseconds, by layer.

Run as ``python -m bench.patient_page_calls [--top N]``. One process, SQLite in a temporary
directory, the page of :mod:`bench.patient_page` asked for as the server does it (WSGI, without
network and TLS). ``micros`` is the processor's time of a page, the least of many rounds;
``bare`` that of the page beside it (:mod:`bench.bare`). Time by layer is the cumulative time under
the profiler, which weighs calls more than they do, as shares; layers lie within one another.
"""

import argparse
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event

from bench.bare import PATH, Bare
from bench.patient_page import cookie_of, fill
from bench.sign_ins import HOST, Portal
from medportal.web.gateway import call, make_environ

PATIENTS = 4
ROUNDS = 300
#: Functions whose cumulative time is told, as (end of the file's path, name).
LAYERS = (
    ("medportal/records/views/patient.py", "patient_page"),
    ("medportal/records/timeline.py", "page_of"),
    ("medportal/records/timeline.py", "looked_at"),
    ("medportal/records/timeline.py", "cards_of"),
    ("medportal/records/timeline.py", "note_listed"),
    ("medportal/records/opening.py", "open_many"),
    ("medportal/records/vitals.py", "latest"),
    ("medportal/access/decisions.py", "decide"),
    ("medportal/identity/sessions.py", "load"),
    ("medportal/web/layout.py", "add_layout"),
    ("medportal/tenancy/requests.py", "host_tween"),
    ("medportal/tenancy/requests.py", "tail_tween"),
    ("pyramid_chameleon/renderer.py", "__call__"),
    ("pyramid/request.py", "invoke_exception_view"),
    ("sqlalchemy/orm/session.py", "execute"),
    ("sqlalchemy/engine/base.py", "execute"),
    ("sqlalchemy/engine/default.py", "do_execute"),
    ("pyramid/url.py", "route_path"),
)


class Page:
    """One page of a running portal, asked for again and again."""

    def __init__(self, app: Any, path: str, cookie: str) -> None:
        self._app = app
        self._scope: dict[str, Any] = {
            "method": "GET",
            "path": path,
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "https",
            "server": (HOST.split(":")[0], 8443),
            "client": ("127.0.0.1", 40000),
            "headers": [(b"host", HOST.encode()), (b"cookie", cookie.encode())],
        }

    def __call__(self) -> bytes:
        """Return the page."""
        answer = call(self._app, make_environ(self._scope))
        if answer.status != 200:
            raise SystemExit(f"the page was refused: {answer.status}")
        return bytes(answer.body)


def micros(page: Page) -> float:
    """Return the processor's microseconds of a page, the least of many rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        page()
        least = min(least, time.process_time() - began)
    return round(least * 1e6, 0)


def calls(page: Page) -> int:
    """Return how many calls a page makes, of Python and of C functions."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(page)
    # What the library documents and typeshed leaves out, here and below.
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def statements(page: Page, engine: Any) -> list[str]:
    """Return the SQL statements of a page, in their order."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        found.append(" ".join(statement.split()))

    event.listen(engine, "before_cursor_execute", note)
    page()
    event.remove(engine, "before_cursor_execute", note)
    return found


def profiled(page: Page, rounds: int = 40) -> pstats.Stats:
    """Return the profile of some pages."""
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for _ in range(rounds):
        page()
    profile.disable()
    return pstats.Stats(profile)


def layers(stats: pstats.Stats) -> dict[str, float]:
    """Return the share of the whole that each layer has, with what it calls."""
    whole = stats.total_tt  # type: ignore[attr-defined]
    found = {}
    for (file, _line, name), row in stats.stats.items():  # type: ignore[attr-defined]
        for ending, wanted in LAYERS:
            if name == wanted and file.endswith(ending):
                found[f"{ending}:{name}"] = round(row[3] / whole, 3)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--top", type=int, default=0, help="print so many functions, by time")
    parser.add_argument("--sql", action="store_true", help="print the statements")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        portal = Portal(Path(name), f"sqlite:///{name}/portal.sqlite")
        patients = fill(portal, PATIENTS)
        cookie = cookie_of(portal)
        app = Bare(portal.app)
        page = Page(app, f"/patients/{patients[0]}", cookie)
        bare = Page(app, PATH, cookie)
        for _ in range(5):
            page(), bare()
        engine = portal.app.registry["tenants"].database(portal.tenant.id).engine
        said = statements(page, engine)
        print(
            json.dumps(
                {
                    "bench": "patient_page_calls",
                    "micros": {"page": micros(page), "bare": micros(bare)},
                    "calls": {"page": min(calls(page) for _ in range(5)), "bare": calls(bare)},
                    "statements": len(said),
                    "bytes": len(page()),
                    "layers": layers(profiled(page)),
                }
            ),
            flush=True,
        )
        if asked.sql:
            print("\n".join(said))
        if asked.top:
            stats = profiled(page)
            stats.stream = sys.stdout  # type: ignore[attr-defined]
            stats.sort_stats("cumulative").print_stats(asked.top)
            stats.sort_stats("tottime").print_stats(asked.top)


if __name__ == "__main__":
    main()
