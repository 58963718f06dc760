"""Tenant files on disk."""

import pytest
from functional_helpers import PORTS

from medportal.core.errors import ConfigurationError
from medportal.tenancy.loader import load_tenants

VARIABLES = {"state": "/srv/medportal", **PORTS}
BOTH = ["hospital", "laboratory"]


def problems_of(directory, names=BOTH, variables=VARIABLES):
    with pytest.raises(ConfigurationError) as refused:
        load_tenants(directory, names, variables)
    return list(refused.value.problems)


def test_the_files_of_the_demonstration_are_right(tenant_directory):
    tenants = load_tenants(tenant_directory, BOTH, VARIABLES)
    assert list(tenants) == BOTH
    assert tenants["hospital"].database_url == "sqlite:////srv/medportal/hospital/portal.sqlite"
    assert tenants["hospital"].exchange.listen == "127.0.0.1:4000"


def test_only_the_named_files_are_read(tenant_directory):
    (tenant_directory / "laboratory.toml").write_text("not read")
    assert list(load_tenants(tenant_directory, ["hospital"], VARIABLES)) == ["hospital"]


def test_a_file_that_is_not_there(tenant_directory):
    assert problems_of(tenant_directory, ["clinic"]) == [
        "clinic.toml: there is no such tenant file"
    ]


@pytest.mark.parametrize("content", [b"id = ", b"\xff\xfe", b"[roles]\n[roles]\n"])
def test_a_file_that_is_not_toml(tenant_directory, content):
    (tenant_directory / "hospital.toml").write_bytes(content)
    (problem,) = problems_of(tenant_directory)
    assert problem.startswith("hospital.toml: is not TOML: ")


def test_a_file_that_cannot_be_read(tenant_directory):
    (tenant_directory / "clinic.toml").mkdir()
    (problem,) = problems_of(tenant_directory, ["clinic"])
    assert problem.startswith("clinic.toml: cannot be read: ")


def test_a_file_that_is_nested_without_end(tenant_directory):
    (tenant_directory / "clinic.toml").write_text("x = " + "[" * 100_000)
    (problem,) = problems_of(tenant_directory, ["clinic"])
    assert problem == "clinic.toml: is not TOML: nested too deeply"


def test_every_problem_of_every_file_is_told(tenant_directory, edit):
    edit("hospital", 'kind = "hospital"', 'kind = "clinic"')
    edit("laboratory", "digits = 8", "digits = 1")
    edit("laboratory", 'accent = "#6a3fa0"', 'accent = "#fefefe"')
    problems = problems_of(tenant_directory, [*BOTH, "clinic"])
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["hospital.toml", "kind"],
        ["laboratory.toml", "colours"],
        ["laboratory.toml", "identifiers.digits"],
        ["clinic.toml", "there is no such tenant file"],
    ]


def test_unknown_variables_are_told_with_their_keys(tenant_directory, edit):
    edit("hospital", "{state}/hospital", "{sate}/hospital")
    edit("hospital", '"Maternity"', '"{nowhere}"')
    edit("hospital", '{ en = "Porter"', '{ en = "{open"')
    problems = problems_of(tenant_directory)
    assert [problem.split(": ")[1] for problem in problems] == [
        "wards",
        "database.url",
        "roles.porter.names.en",
    ]
    known = "known are {exchange_port}, {hospital_port}, {laboratory_port}, {mail_port}, {state}"
    assert all(known in problem for problem in problems)


@pytest.mark.parametrize(
    "text", ["pa{ss}word", "{state.__class__}", "{state!r}", "{0}", "{}", "{state:>9}", "se{cret"]
)
def test_a_password_with_braces_is_not_repeated_and_nothing_is_evaluated(
    tenant_directory, edit, text
):
    edit("hospital", "sqlite:///{state}/hospital/portal.sqlite", f"postgresql://u:{text}@db/h")
    (problem,) = problems_of(tenant_directory)
    assert problem.startswith("hospital.toml: database.url: holds an unknown {variable}")
    assert "write {{ for a brace" in problem
    for piece in ("cret", "ss}", "__class__", "!r", ">9"):
        assert piece not in problem


def test_a_brace_is_written_twice(tenant_directory, edit):
    edit("hospital", "sqlite:///{state}/hospital/portal.sqlite", "postgresql://u:a{{b}}@db/h")
    tenant = load_tenants(tenant_directory, ["hospital"], VARIABLES)["hospital"]
    assert tenant.database_url == "postgresql://u:a{b}@db/h"


def test_a_variable_does_not_bring_in_another(tenant_directory):
    variables = {"state": "/srv/{exchange_port}", **PORTS}
    tenant = load_tenants(tenant_directory, ["hospital"], variables)["hospital"]
    assert tenant.database_url == "sqlite:////srv/{exchange_port}/hospital/portal.sqlite"


def test_two_tenants_with_one_host(tenant_directory, edit):
    edit("laboratory", '["laboratory.localhost"]', '["laboratory.localhost", "hospital.localhost"]')
    assert problems_of(tenant_directory) == [
        "laboratory.toml: hostnames: hospital.localhost belongs to hospital already"
    ]


def test_an_id_that_is_not_the_files_name(tenant_directory, edit):
    edit("laboratory", 'id = "laboratory"', 'id = "hospital"')
    problems = problems_of(tenant_directory)
    assert problems == ["laboratory.toml: id: must be the same as the file's name"]
