"""The institution as its admins have it: at once where they saved it, soon everywhere else."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from functional_helpers import PORTS
from pictures import png
from sqlalchemy import delete, insert
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from medportal.core.ids import new_id
from medportal.tenancy import store
from medportal.tenancy.effective import REFRESH_SECONDS, EffectiveTenant
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.models import SettingsVersion
from medportal.tenancy.registry import TenantRegistry
from medportal.tenancy.tenant import Tenant

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
ADMIN = new_id()


class Hands:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float = REFRESH_SECONDS) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def tenants(tenant_directory: Any) -> dict[str, Tenant]:
    variables = {"state": "/nowhere", **PORTS}
    return load_tenants(tenant_directory, ["hospital", "laboratory"], variables)


@pytest.fixture(params=["sqlite", "postgresql"])
def registries(
    request: pytest.FixtureRequest, new_database: Any, tenants: dict[str, Tenant], clock: Hands
) -> Iterator[tuple[TenantRegistry, TenantRegistry]]:
    """Two processes that serve the same two institutions."""
    urls = {name: new_database(request.param) for name in tenants}
    made = {name: replace(tenant, database_url=urls[name]) for name, tenant in tenants.items()}
    both = TenantRegistry(made, clock), TenantRegistry(made, clock)
    yield both
    for registry in both:
        registry.dispose()


def save(
    registry: TenantRegistry,
    version: int,
    changes: Any,
    logo: bytes | None = None,
    name: str = "hospital",
    at: datetime = NOW,
) -> None:
    """Save a version, as a process does that is not one of the registries'."""
    text = changes if isinstance(changes, str) else json.dumps(changes)
    with registry.database(name).writer() as session, session.begin():
        session.execute(
            insert(SettingsVersion).values(
                version=version, changes=text, logo=logo, by=ADMIN, at=at
            )
        )


def called(registry: TenantRegistry, name: str = "hospital") -> str:
    return registry.effective(name).current().name("en")


def named(name: str) -> dict[str, Any]:
    return {"names": {"en": name}}


def test_without_a_version_the_file_counts(registries) -> None:
    first, _other = registries
    assert first.effective("hospital").current() is first.tenants["hospital"]


def test_a_version_counts_from_the_first_request(registries) -> None:
    first, _other = registries
    save(first, 1, named("One"), png())
    assert called(first) == "One"
    assert first.effective("hospital").current().logo == png()
    # By its host an institution is found as its file has it, without a database.
    found = first.for_host("hospital.localhost")
    assert found is first.tenants["hospital"]


def test_a_change_is_seen_at_once_where_it_was_saved_and_soon_elsewhere(
    registries, clock: Hands
) -> None:
    first, other = registries
    assert {called(first), called(other)} == {"Riverside Hospital"}
    save(first, 1, named("One"))
    first.effective("hospital").saved(1)
    assert called(first) == "One"
    assert called(other) == "Riverside Hospital"
    clock.move(REFRESH_SECONDS - 0.1)
    assert called(other) == "Riverside Hospital"
    clock.move(0.1)
    assert called(other) == "One"


def test_a_neighbour_is_not_touched(registries, clock: Hands) -> None:
    first, other = registries
    save(first, 1, named("One"), png())
    first.effective("hospital").saved(1)
    clock.move()
    for registry in (first, other):
        assert called(registry) == "One"
        assert registry.effective("laboratory").current() is registry.tenants["laboratory"]
    with pytest.raises(KeyError):
        first.effective("clinic")


def test_between_two_looks_nothing_is_asked(registries, clock: Hands) -> None:
    first, _other = registries
    looks = count_looks(first)
    for _ in range(50):
        called(first)
    assert looks() == 1
    clock.move()
    for _ in range(50):
        called(first)
    assert looks() == 2


def count_looks(registry: TenantRegistry) -> Callable[[], int]:
    database = registry.database("hospital")
    looks: list[int] = []

    def reader() -> Any:
        looks.append(1)
        return database.reader()

    registry.effective("hospital")._reader = reader
    return lambda: len(looks)


def test_the_newest_version_counts_and_an_older_one_after_a_restore(
    registries, clock: Hands
) -> None:
    first, _other = registries
    save(first, 1, named("One"))
    save(first, 2, named("Two"))
    first.effective("hospital").saved(2)
    assert called(first) == "Two"
    with first.database("hospital").writer() as session, session.begin():
        session.execute(delete(SettingsVersion).where(SettingsVersion.version == 2))
    clock.move()
    assert called(first) == "One"
    looks = count_looks(first)
    assert called(first) == "One"
    assert looks() == 0, "a version that is gone is not waited for"
    # Another one of the same number is another one.
    save(first, 2, named("Other"), at=NOW + timedelta(hours=1))
    clock.move()
    assert called(first) == "Other"


def test_everything_taken_away_is_the_file_again(registries, clock: Hands) -> None:
    first, _other = registries
    save(first, 1, named("One"))
    assert called(first) == "One"
    with first.database("hospital").writer() as session, session.begin():
        session.execute(delete(SettingsVersion))
    clock.move()
    assert called(first) == "Riverside Hospital"


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"names": 3}', "x" * 8000])
def test_changes_that_cannot_be_read_leave_the_file(registries, broken: str) -> None:
    first, _other = registries
    save(first, 1, named("One"))
    save(first, 2, broken, png())
    with capture_logs() as logs:
        assert first.effective("hospital").current() == first.tenants["hospital"]
    assert [dict(line) for line in logs] == [
        {
            "event": "settings-left-out",
            "log_level": "warning",
            "tenant": "hospital",
            "version": 2,
            "keys": ["changes"],
        }
    ]


def test_what_does_not_fit_is_left_out_and_logged_by_key(registries) -> None:
    first, _other = registries
    save(first, 1, {"names": {"en": "marker-1<", "pt": "Rio"}, "sessions": {"idle_minutes": 999}})
    with capture_logs() as logs:
        found = first.effective("hospital").current()
    assert (found.name("en"), found.name("pt")) == ("Riverside Hospital", "Rio")
    assert found.sessions == first.tenants["hospital"].sessions
    (line,) = logs
    assert line["keys"] == ["names.en", "sessions.idle_minutes"]
    assert "marker-1" not in str(line), "only keys are logged"


# A database that does not answer.


class Broken:
    """A way to a database that fails, until it is mended."""

    def __init__(self, registry: TenantRegistry, error: Exception) -> None:
        self.registry = registry
        self.error: Exception | None = error
        self.asked = 0

    def __call__(self) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.registry.database("hospital").reader()


DOWN = OperationalError("SELECT", {}, Exception("hunter2"))


def test_a_database_that_never_answers_leaves_the_file(registries, clock: Hands) -> None:
    first, _other = registries
    broken = Broken(first, DOWN)
    effective = EffectiveTenant(first.tenants["hospital"], broken, clock)
    with capture_logs() as logs:
        for _ in range(20):
            assert effective.current() is first.tenants["hospital"]
    assert broken.asked == 1, "nor is it asked again at each request"
    (line,) = logs
    assert line["event"] == "settings-unread"
    assert line["kinds"][0] == "sqlalchemy.exc.OperationalError"
    assert "hunter2" not in str(line)
    clock.move()
    assert effective.current() is first.tenants["hospital"]
    assert broken.asked == 2


@pytest.mark.parametrize("error", [DOWN, OSError("disk"), RuntimeError("whatever")])
def test_a_database_that_goes_away_leaves_what_was_known(
    registries, clock: Hands, error: Exception
) -> None:
    first, _other = registries
    save(first, 1, named("One"))
    broken = Broken(first, error)
    broken.error = None
    effective = EffectiveTenant(first.tenants["hospital"], broken, clock)
    assert effective.current().name("en") == "One"
    broken.error = error
    # Not even what this process saved itself is waited for at each request.
    save(first, 2, named("Two"))
    effective.saved(2)
    for _ in range(20):
        assert effective.current().name("en") == "One"
    assert broken.asked == 2
    broken.error = None
    clock.move()
    assert effective.current().name("en") == "Two"


def test_a_database_that_is_behind_is_no_news_here(
    tmp_path, tenants: dict[str, Tenant], clock: Hands
) -> None:
    url = f"sqlite:///{tmp_path}/empty.sqlite"
    registry = TenantRegistry({"hospital": replace(tenants["hospital"], database_url=url)}, clock)
    with capture_logs() as logs:
        assert called(registry) == "Riverside Hospital"
    assert logs == [], "whoever needs the database says so"
    registry.dispose()


# Many requests at once.


def test_while_one_looks_the_others_go_on(registries, clock: Hands) -> None:
    first, _other = registries
    save(first, 1, named("One"))
    looking, go_on = threading.Event(), threading.Event()
    slow = [False]

    def reader() -> Any:
        if slow[0]:
            looking.set()
            assert go_on.wait(30)
        return first.database("hospital").reader()

    effective = EffectiveTenant(first.tenants["hospital"], reader, clock)
    assert effective.current().name("en") == "One"
    slow[0] = True
    save(first, 2, named("Two"))
    clock.move()
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(effective.current().name("en")))
    thread.start()
    assert looking.wait(30)
    assert effective.current().name("en") == "One"
    go_on.set()
    thread.join(30)
    assert seen == ["Two"]
    assert effective.current().name("en") == "Two"


def test_the_first_ones_wait_for_the_look_of_the_first(
    registries, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be less strict than what the admins want, so nobody starts with it."""
    monkeypatch.setattr("medportal.tenancy.effective.PATIENCE_SECONDS", 30)
    first, _other = registries
    save(first, 1, named("One"))
    looking, go_on = threading.Event(), threading.Event()
    asked: list[int] = []

    def reader() -> Any:
        asked.append(1)
        looking.set()
        assert go_on.wait(30)
        return first.database("hospital").reader()

    effective = EffectiveTenant(first.tenants["hospital"], reader, clock)
    seen: list[str] = []
    threads = [
        threading.Thread(target=lambda: seen.append(effective.current().name("en")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert looking.wait(30)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert seen == ["One"] * 3
    assert asked == [1]


def test_a_look_begun_before_a_save_does_not_hide_it(registries, clock: Hands) -> None:
    """One thread reads the old version, another saves and commits, the first one ends."""
    first, _other = registries
    save(first, 1, named("One"))
    has_read, go_on = threading.Event(), threading.Event()

    class Slow:
        def __enter__(self) -> Any:
            self.session = first.database("hospital").reader()
            return self.session

        def __exit__(self, *_how: object) -> None:
            self.session.close()
            has_read.set()
            assert go_on.wait(30)

    slow = [True]
    effective = EffectiveTenant(
        first.tenants["hospital"],
        lambda: Slow() if slow[0] else first.database("hospital").reader(),  # type: ignore[arg-type,return-value]
        clock,
    )
    thread = threading.Thread(target=effective.current)
    thread.start()
    assert has_read.wait(30)
    save(first, 2, named("Two"))
    effective.saved(2)
    slow[0] = False
    go_on.set()
    thread.join(30)
    assert effective.current().name("en") == "Two"


def test_versions_are_listed_newest_first(registries) -> None:
    first, _other = registries
    for number in range(1, 6):
        save(first, number, named(f"Name {number}"))
    with first.database("hospital").reader() as session:
        assert [row.version for row in store.versions_before(session, None, 3)] == [5, 4, 3]
        assert [row.version for row in store.versions_before(session, 3, 9)] == [2, 1]
        assert store.newest_mark(session) == (5, NOW)
        found = store.find(session, 2)
        assert found is not None
        assert (found.by, found.at) == (ADMIN, NOW)
        assert store.find(session, 9) is None
