"""Numbers as people type them, and as attackers do."""

import json
import pkgutil
import tomllib
import unicodedata
from pathlib import Path

import pytest
import stdnum
from hypothesis import given
from hypothesis import strategies as st

from medportal.core.errors import ConfigurationError
from medportal.identity.numbers import normal_number
from medportal.patients.pseudonyms import check_scheme
from medportal.patients.pseudonyms import normal_number as hashed_number
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.parsing import parse
from medportal.tenancy.schemes import is_scheme, normal_form
from medportal.tenancy.tenant import IdentifierScheme, Tenant
from medportal.web.colour import contrast

FILE = Path(__file__).resolve().parents[2] / "tenants" / "hospital.toml"
CARD = IdentifierScheme("citizen-card", 8)


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("17645234", "17645234"),
        (" 176 45.234 ", "17645234"),
        ("17-64-52-34", "17645234"),
        ("1764\u00a05234", "17645234"),
        ("\t17645234\t", "17645234"),
        ("00000001", "00000001"),
        ("１７６４５２３４", "17645234"),  # full width
        ("𝟏𝟕𝟔𝟒𝟓𝟐𝟑𝟒", "17645234"),  # mathematical bold
        ("①7645234", "17645234"),  # compatibility digits are the digits that they show
        ("17645²34", "17645234"),
    ],
)
def test_legible_forms_are_one_number(typed: str, number: str) -> None:
    assert normal_number(CARD, typed) == number


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "1764523",
        "176452345",
        "1764523a",
        "١٧٦٤٥٢٣٤",  # Arabic-Indic digits are other characters
        "१७६४५२३४",
        "1764523٤",
        "+17645234",
        "17645234\n",
        "1764\u200b5234",  # zero width space
        "\u202e17645234",  # right to left override
        "17645234\x00",
        "⑩764523",  # one character, two digits: eight in all, but see below
        "½7645234",
        "17645234'--",
        "１７６４５２３４５",
        "九7645234",
        "0x176452",
        "1e000008",
        "1_764523",
        "1" * 41,
        "1\u00ad7645234",  # soft hyphen
        "\ufeff17645234",
        "۱۷۶۴۵۲۳۴",
        "1 7 6 4 5 2 3 4" + " " * 30,
    ],
)
def test_what_is_no_number(typed: str) -> None:
    # "⑩764523" becomes "10764523" by compatibility: nobody can take it for another number.
    wanted = "10764523" if typed == "⑩764523" else None
    assert normal_number(CARD, typed) == wanted


@given(st.text(max_size=12), st.integers(4, 20))
def test_the_result_is_plain_digits_of_the_schemes_length(typed: str, digits: int) -> None:
    scheme = IdentifierScheme("any", digits)
    number = normal_number(scheme, typed)
    if number is not None:
        assert len(number) == digits
        assert set(number) <= set("0123456789")
        assert normal_number(scheme, number) == number


@given(st.from_regex(r"[0-9]{8}", fullmatch=True), st.data())
def test_separators_anywhere_change_nothing(number: str, data: st.DataObject) -> None:
    typed = "".join(
        ch + data.draw(st.text(st.sampled_from(" .-\u00a0\t"), max_size=2)) for ch in number
    )
    assert normal_number(CARD, typed) == number
    assert normal_number(CARD, unicodedata.normalize("NFD", typed)) == number


# -- schemes with check digits -------------------------------------------------------------------


def standard(name: str) -> IdentifierScheme:
    """Return the scheme as the tenant file's name for it gives it."""
    data = tomllib.loads(FILE.read_text("utf-8"))
    del data["exchange"], data["mail"], data["address"]
    data["identifiers"] = {"scheme": name}
    return parse("hospital.toml", data, contrast).identifiers


@pytest.mark.parametrize(
    ("scheme", "stored", "typed", "number"),
    [
        ("pt.cc", "pt-cc", "00000000 0 ZZ4", "000000000ZZ4"),
        ("pt.cc", "pt-cc", "000000000zz4", "000000000ZZ4"),
        ("pt.cc", "pt-cc", "０００００００００ＺＺ４", "000000000ZZ4"),
        ("pt.cc", "pt-cc", "00000000-0-ZZ4", "000000000ZZ4"),
        ("pt.nif", "pt-nif", "501 964 843", "501964843"),
        ("es.dni", "es-dni", "54362315-K", "54362315K"),
        ("pl.pesel", "pl-pesel", "44051401359", "44051401359"),
        ("nl.bsn", "nl-bsn", "1112.22.333", "111222333"),
        ("cz.rc", "cz-rc", "710319/2745", "7103192745"),
        ("is.kennitala", "is-kennitala", "450401-3150", "4504013150"),
        ("gb.nhs", "gb-nhs", "943-476-5870", "9434765870"),
    ],
)
def test_check_digits_are_checked(scheme: str, stored: str, typed: str, number: str) -> None:
    known = standard(scheme)
    assert (known.scheme, known.standard, known.is_numeric) == (stored, scheme, False)
    assert normal_number(known, typed) == number
    assert normal_number(known, number) == number
    # What the portal takes, the pseudonyms that are shared with partners take, too.
    assert check_scheme(known.scheme) == stored
    assert hashed_number(number) == number
    digit = next(i for i, ch in enumerate(number) if ch.isdigit())
    for other in set("0123456789") - {number[digit]}:
        slip = number[:digit] + other + number[digit + 1 :]
        assert normal_number(known, slip) is None, "one slip is noticed"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "00000000",
        "00000000 0 ZZ5",
        "000000000ZZ4\n",
        "000000000ZZ4\x00",
        "0000\u200b00000ZZ4",
        "000000000ΖΖ4",  # Greek capital zeta
        "<script>",
        "0" * 10_000_000,
        "PT000000000ZZ4",
    ],
)
def test_what_is_no_number_of_a_standard(typed: str) -> None:
    assert normal_number(standard("pt.cc"), typed) is None


EVERY_STANDARD = sorted(
    f"{country.name.rstrip('_')}.{module.name}"
    for country in pkgutil.iter_modules(stdnum.__path__)
    if country.ispkg and len(country.name.rstrip("_")) == 2
    for module in pkgutil.iter_modules([f"{stdnum.__path__[0]}/{country.name}"])
)


def test_the_library_is_there_with_its_schemes() -> None:
    usable = [name for name in EVERY_STANDARD if is_scheme(name)]
    assert len(usable) > 150
    assert set(EVERY_STANDARD) - set(usable) == {"fi.hetu", "se.personnummer"}


@given(
    st.sampled_from(EVERY_STANDARD),
    st.text("0123456789ABCDEFXZ -./", max_size=24) | st.text(max_size=24),
)
def test_no_scheme_fails_on_what_people_type(name: str, typed: str) -> None:
    known = IdentifierScheme(name.replace(".", "-"), 0, name)
    if not is_scheme(name):
        with pytest.raises(KeyError):
            normal_number(known, "1234")
        return
    number = normal_number(known, typed)
    assert number is None or normal_number(known, number) == number


@pytest.mark.parametrize(
    "name",
    [
        "pt.nothing",
        "xx.cc",
        "pt.",
        "pt.numdb",
        "pt.__name__",
        "pt.cc.validate",
        "os.path",
        "PT.cc",
        "eu.vat\n",
        "se.personnummer",
        "fi.hetu",
        "",
        "../pt.cc",
    ],
)
def test_only_schemes_are_schemes(name: str) -> None:
    assert not is_scheme(name)
    with pytest.raises(KeyError):
        normal_form(name, "1234")


@pytest.mark.parametrize(
    ("identifiers", "problem"),
    [
        ({"scheme": "pt.nothing"}, "identifiers.scheme: python-stdnum has no such scheme"),
        ({"scheme": "se.personnummer"}, "identifiers.scheme: python-stdnum has no such scheme"),
        ({"scheme": "pt.cc", "digits": 8}, "identifiers.digits: is not used"),
        ({"scheme": "PT.CC"}, "identifiers.scheme: must name the numbering scheme"),
        ({"scheme": "pt.cc.x"}, "identifiers.scheme: must name the numbering scheme"),
        ({"scheme": 7}, "identifiers.scheme: must name the numbering scheme"),
        ({"scheme": ["pt.cc"]}, "identifiers.scheme: must name the numbering scheme"),
        ("pt.cc", "identifiers: must be a table"),
    ],
)
def test_a_wrong_scheme_is_a_problem_of_the_file(
    tmp_path: Path, identifiers: object, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, identifiers)
    assert any(problem in found for found in refused.value.problems), refused.value.problems


def test_a_scheme_and_another_problem_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, {"scheme": "pt.nothing"}, 'kind = "hospital"', 'kind = "school"')
    assert len(refused.value.problems) == 2


def test_a_tenant_with_a_standard_is_loaded(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"scheme": "pt.cc"})
    assert loaded.identifiers == IdentifierScheme("pt-cc", 0, "pt.cc")


def load(directory: Path, identifiers: object, *change: str) -> Tenant:
    """Load the demonstration hospital with other identifiers, as the portal does at its start."""
    text = FILE.read_text("utf-8").replace(
        '[identifiers]\nscheme = "citizen-card"\ndigits = 8\n', ""
    )
    text = f"identifiers = {_inline(identifiers)}\n{text.replace(*change) if change else text}"
    (directory / "hospital.toml").write_text(text, "utf-8")
    variables = dict.fromkeys(
        ("state", "exchange_port", "mail_port", "hospital_port", "laboratory_port"), "1"
    )
    return load_tenants(directory, ["hospital"], variables)["hospital"]


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
