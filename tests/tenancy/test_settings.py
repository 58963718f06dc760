"""Settings of a process."""

from pathlib import Path

import pytest
from functional_helpers import PORTS

from medportal.core.errors import ConfigurationError
from medportal.settings import parse_settings


@pytest.fixture
def raw(tenant_directory, tmp_path):
    return {
        "medportal.production": "false",
        "medportal.tenants": "hospital laboratory",
        "medportal.tenants_dir": str(tenant_directory),
        "medportal.state_dir": str(tmp_path / "state"),
        **{f"medportal.variable.{name}": port for name, port in PORTS.items()},
        "pyramid.default_locale_name": "en",
    }


def problems_of(raw):
    with pytest.raises(ConfigurationError) as refused:
        parse_settings(raw)
    return list(refused.value.problems)


def test_settings_are_read(raw, tmp_path):
    settings = parse_settings(raw)
    assert list(settings.tenants) == ["hospital", "laboratory"]
    assert settings.state == (tmp_path / "state").resolve()
    assert settings.home("hospital") == settings.state / "hospital"
    assert settings.variables == PORTS | {"state": str(settings.state)}
    assert not settings.production
    assert not settings.hsts
    assert settings.tenant("hospital").id == "hospital"


def test_a_tenant_that_is_not_served(raw):
    with pytest.raises(ConfigurationError, match=r"served: hospital, laboratory"):
        parse_settings(raw).tenant("../clinic")


def test_missing_keys_are_told_at_once():
    assert problems_of({"medportal.tenants": "  "}) == [
        "ini: medportal.tenants is missing",
        "ini: medportal.tenants_dir is missing",
        "ini: medportal.state_dir is missing",
    ]


def test_bad_flags_are_told_with_what_is_missing_and_not_repeated(raw):
    raw |= {"medportal.production": "marker-1", "medportal.hsts": "", "medportal.state_dir": ""}
    assert problems_of(raw) == [
        "ini: medportal.state_dir is missing",
        "ini: medportal.production must be true or false",
        "ini: medportal.hsts must be true or false",
    ]


@pytest.mark.parametrize("production", [None, "true", "True", "TRUE"])
def test_production_is_the_default_and_refuses_the_demonstration(raw, production):
    del raw["medportal.production"]
    if production is not None:
        raw["medportal.production"] = production
    assert problems_of(raw) == [
        f"{name}.toml: demonstration: a production portal serves no demonstration tenant"
        for name in ("hospital", "laboratory")
    ]


@pytest.mark.parametrize(("hsts", "expected"), [(None, True), ("false", False), ("true", True)])
def test_production_serves_other_tenants_and_asks_for_https_only(raw, edit, hsts, expected):
    for name in ("hospital", "laboratory"):
        edit(name, "demonstration = true", "demonstration = false")
    raw["medportal.production"] = "true"
    if hsts:
        raw["medportal.hsts"] = hsts
    settings = parse_settings(raw)
    assert settings.production
    assert settings.hsts is expected


def test_what_is_wrong_in_tenant_files_is_told(raw):
    raw["medportal.tenants"] = "hospital clinic"
    assert problems_of(raw) == ["clinic.toml: there is no such tenant file"]
    Path(raw["medportal.tenants_dir"], "hospital.toml").write_text("id = 1")
    assert len(problems_of(raw)) > 5


@pytest.mark.parametrize("edges", ["", "10.0.0.2", " 10.0.0.2\n2001:db8::2 "])
def test_trusted_edges_are_addresses(raw, edges):
    raw["medportal.trusted_edges"] = edges
    assert parse_settings(raw)


@pytest.mark.parametrize("edges", ["edge.example", "10.0.0.0/24", "10.0.0.2, 10.0.0.3", "marker-1"])
def test_what_is_no_address_is_told_and_not_repeated(raw, edges):
    raw["medportal.trusted_edges"] = edges
    told = "ini: medportal.trusted_edges must be addresses, separated by spaces"
    assert problems_of(raw) == [told]
