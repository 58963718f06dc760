"""A portal whose database is behind the code says so to the operator, and 503 to browsers."""

import json

import pytest
from functional_helpers import PORTS
from sqlalchemy import text
from webtest import TestApp

from medportal.config import make_app
from medportal.tenancy.engines import make_engine


def _make(tenant_directory, tmp_path):
    raw = {
        "medportal.production": "false",
        "medportal.tenants": "hospital laboratory",
        "medportal.tenants_dir": str(tenant_directory),
        "medportal.state_dir": str(tmp_path / "state"),
        **{f"medportal.variable.{name}": port for name, port in PORTS.items()},
    }
    environ = {
        "HTTP_HOST": "hospital.localhost:8443",
        "wsgi.url_scheme": "https",
        "SERVER_PORT": "8443",
        "REMOTE_ADDR": "127.0.0.1",
    }
    return TestApp(make_app(raw), extra_environ=environ)


@pytest.fixture
def empty(tenant_directory, tmp_path):
    """Give a portal whose databases have no table."""
    app = _make(tenant_directory, tmp_path)
    yield app
    app.app.registry["tenants"].dispose()


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]


def test_an_empty_database_is_503_and_the_log_names_the_command(empty, capsys):
    answer = empty.get("/healthz", status=503)
    assert answer.headers["Retry-After"]
    assert "We cannot answer right now" in answer.text
    (line,) = lines_of(capsys)
    assert line["event"] == "tenant-behind"
    assert line["level"] == "error"
    assert line["tenant"] == "hospital"
    assert line["problem"].endswith("mend it with: medportal tenant migrate hospital")


def test_no_page_that_needs_the_database_crashes(empty):
    cookie = {"Cookie": "__Host-hospital-session=whatever"}
    for path in ("/healthz", "/sign-in", "/patients", "/nowhere", f"/patients/{'a' * 32}"):
        answer = empty.get(path, headers=cookie, status=503)
        assert "Something went wrong" not in answer.text
        assert "migrate" not in answer.text, "how to mend it is the operator's business"
        assert answer.headers["Content-Security-Policy"]


def test_the_portal_answers_again_once_the_database_is_mended(tenant_directory, tmp_path, edit):
    from medportal.tenancy.schema import migrate

    path = tmp_path / "mended.sqlite"
    edit("hospital", "sqlite:///{state}/hospital/portal.sqlite", f"sqlite:///{path}")
    app = _make(tenant_directory, tmp_path)
    app.get("/healthz", status=503)
    engine = make_engine(f"sqlite:///{path}")
    migrate(engine)
    assert app.get("/healthz").json["status"] == "ok"
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    engine.dispose()
    app.app.registry["tenants"].dispose()
    app.get("/healthz", status=503)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_of_another_revision_is_503(
    tenant_directory, tmp_path, edit, new_database, kind
):
    url = new_database(kind)
    edit("hospital", "sqlite:///{state}/hospital/portal.sqlite", url)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    engine.dispose()
    app = _make(tenant_directory, tmp_path)
    app.get("/healthz", status=503)
    app.app.registry["tenants"].dispose()
