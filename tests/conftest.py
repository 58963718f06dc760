"""What every test may use: databases built by the migrations, and a reason for each skip.

``MEDPORTAL_REQUIRE_ALL=1`` turns every skip for want of something into a failure.
"""

import gc
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from medportal.tenancy.engines import make_engine
from medportal.tenancy.schema import migrate
from medportal.vault.mongo import close_clients

# Helpers that lie beside the tests that use them; import-mode "importlib" adds no path.
HELPERS = ("functional", "transfer", "e2e", "firewall")
sys.path += [str(Path(__file__).parent / folder) for folder in HELPERS]

#: Where the processes of a run, workers and servers alike, find the templates that one of them
#: has compiled: each template once a run, by its content. Chameleon reads the name when it is
#: imported. The directory is this user's alone, so what runs as another user goes without.
COMPILED = "CHAMELEON_CACHE"
MADE_HERE = COMPILED not in os.environ
if MADE_HERE:
    os.environ[COMPILED] = tempfile.mkdtemp(prefix="medportal-compiled-")
COMPILED_HERE = Path(os.environ[COMPILED])

import mongo_server  # noqa: E402

# A busy machine is no fault of the code: hypothesis shall not measure time. Nor shall a run fail
# for an example that the run before did not draw: pytest --hypothesis-profile=explore looks on.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("medportal", settings.get_profile("explore"), derandomize=True)
settings.load_profile("medportal")

NewDatabase = Callable[[str], str]

#: The files that take longest, the longest first, so that no worker is left with one at the end.
LONGEST = (
    "e2e/test_pages",
    "functional/test_no_admin_reads_alone",
    "identity/test_throttle",
    "functional/test_results",
    "backup/test_backup_hostile",
    "faults/test_fault_run",
    "functional/test_neighbours",
    "functional/test_corrections_travel",
    "e2e/test_hostile_http",
    "functional/test_second_factor",
    "functional/test_key_changes",
    "firewall/test_packets",
    "backup/test_backup_restore",
    "e2e/test_operations",
    "e2e/test_accounts",
    "cli/test_commands_keys",
    "functional/test_held",
    "functional/test_mongodb_portal",
    "functional/test_partners",
    "functional/test_roles",
    "functional/test_no_clerk_reads_alone",
    "audit/test_tampering",
    "functional/test_passkeys",
    "functional/test_rules",
    "backup/test_backup_mongodb",
    "transfer/test_crx_loopback",
    "transfer/test_crx_kills",
    "cli/test_tenant_add",
    "e2e/test_access_by_mail",
    "e2e/test_rules_and_glass",
    "functional/test_versions",
    "functional/test_reset",
    "functional/test_people",
    "functional/test_settings",
    "e2e/test_main_job",
    "web/test_web_catalogue",
    "transfer/test_crx_wire",
    "access/test_decisions",
    "firewall/test_loading",
    "backup/test_backup_erased",
)
_TESTS = Path(__file__).parent
_TURNS = {_TESTS / f"{name}.py": turn for turn, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave out what another case shows.

    Every test of pages runs on both engines, but its further cases on SQLite alone: what the
    engine changes does not depend on the case, another hostile input, another role. So it
    is with what is marked as a simulation: thousands of the same few statements.
    ``MEDPORTAL_EVERY_CASE=1`` runs them all.
    """
    # Stable: the order within a file stays, and that of the files that are not named.
    items.sort(key=lambda item: _TURNS.get(item.path, len(_TURNS)))
    if os.environ.get("MEDPORTAL_EVERY_CASE"):
        return
    seen: set[tuple[Path, str]] = set()
    kept, left = [], []
    for item in items:
        callspec = getattr(item, "callspec", None)
        params = callspec.params if callspec else {}
        test = (item.path, getattr(item, "originalname", item.name))
        is_simulation = item.get_closest_marker("simulation") is not None
        on_postgresql = params.get("engine" if is_simulation else "portal") == "postgresql"
        again = on_postgresql and len(params) > 1 and test in seen
        (left if again else kept).append(item)
        if on_postgresql:
            seen.add(test)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def pytest_collection_finish() -> None:
    """Tell the collector that what was imported and collected stays: it need not look again."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """Take away what the run compiled, at its end, where it was begun."""
    if MADE_HERE:
        # A server that is still ending may write there: nothing depends on what it leaves.
        shutil.rmtree(COMPILED_HERE, ignore_errors=True)


def want(present: object, reason: str) -> None:
    """Skip, or fail where everything is required, unless something is present."""
    if present:
        return
    if os.environ.get("MEDPORTAL_REQUIRE_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def want_present() -> Callable[[object, str], None]:
    """Return :func:`want` for fixtures of other folders."""
    return want


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Start a PostgreSQL server that listens on a socket in a directory of its own."""
    programs = _postgres_programs()
    want(programs, "PostgreSQL's server programs are not installed")
    assert programs is not None
    home = Path(tempfile.mkdtemp(prefix="medportal-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(home, user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / program), *arguments],
            check=True,
            user=user,
            cwd=home,
            timeout=60,
            stdout=subprocess.DEVNULL,
        )

    data = str(home / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "portal", "-E", "UTF8", "--no-sync")
    options = f"-k {home} -c listen_addresses='' -c fsync=off -c max_connections=200"
    run("pg_ctl", "-D", data, "-w", "-s", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://portal@/postgres?host={home}"
    finally:
        run("pg_ctl", "-D", data, "-w", "-s", "-m", "immediate", "stop")
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def key_material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the keys of both institutions once; each installation gets a copy.

    Opening the files takes no effort: every start of a process, and many tests, open some.
    """
    # Here, so that tests without an installation do not wait for these.
    from installation import ROOT, raw_settings

    from medportal.core.clock import utcnow
    from medportal.ops.institution import create_keys, trust_each_other
    from medportal.settings import parse_settings
    from medportal.vault.passphrase import Cost

    cheap = Cost(iterations=1, lanes=1, memory_kib=8)
    state = tmp_path_factory.mktemp("keys")
    settings = parse_settings(raw_settings(ROOT / "tenants", state))
    for tenant in settings.tenants.values():
        create_keys(settings, tenant, utcnow(), cheap)
    trust_each_other(settings, utcnow())
    return state


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mongo_server.MongoServer]:
    """Give a MongoDB server over TLS: one of our own, or the one that the environment names."""
    home = tmp_path_factory.mktemp("mongodb")
    if mongo_server.is_given():
        server = mongo_server.given(home)
    else:
        want(mongo_server.program(), "SecantusDB (secantusd-py) is not installed")
        server = mongo_server.started(home)
    yield server
    close_clients()
    server.stop()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "portal.sqlite"
    engine = make_engine(f"sqlite:///{path}")
    migrate(engine)
    with engine.connect() as connection:
        # Everything into the one file that is copied.
        connection.execute(text("ROLLBACK"))
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: str) -> str:
    admin = create_engine(
        postgres_url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE migrated"))
    admin.dispose()
    engine = make_engine(postgres_url.replace("/postgres?", "/migrated?"))
    migrate(engine)
    engine.dispose()
    return postgres_url


@pytest.fixture(scope="session")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> NewDatabase:
    """Return a maker of empty migrated databases: kind ("sqlite", "postgresql") -> address."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            path = tmp_path_factory.mktemp("database") / "portal.sqlite"
            shutil.copy(request.getfixturevalue("_sqlite_template"), path)
            return f"sqlite:///{path}"
        server = request.getfixturevalue("_postgres_template")
        name = f"t{secrets.token_hex(8)}"
        admin = create_engine(
            server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated"))
        admin.dispose()
        return str(server.replace("/postgres?", f"/{name}?"))

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, new_database: NewDatabase) -> Iterator[Engine]:
    """Give an empty, migrated database on each of the two engines."""
    made = make_engine(new_database(request.param))
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Give a session whose transaction is rolled back at the end."""
    with Session(engine) as opened:
        yield opened
