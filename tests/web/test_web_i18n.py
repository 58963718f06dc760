"""Which language, and how it writes dates and numbers."""

from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pyramid.request import Request

from medportal.web import i18n
from medportal.web.i18n import _
from medportal.web.layout import Helpers


def asking(wsgi: Any, language: str = "en", **attributes: Any) -> Any:
    request = Request.blank("/")
    request.registry = wsgi.registry
    request.locale_name = language
    request.__dict__.update(attributes)
    return request


@pytest.mark.parametrize(
    ("headers", "cookie", "language"),
    [
        ({}, None, "en"),
        ({"Accept-Language": "pt-PT,pt;q=0.9,en;q=0.5"}, None, "pt"),
        ({"Accept-Language": "fr"}, None, "en"),
        ({"Accept-Language": "\x01nonsense;;q=q"}, None, "en"),
        ({"Accept-Language": "en", "X-Preference": "pt"}, None, "pt"),
        ({"X-Preference": "xx"}, None, "en"),
        ({"X-Preference": "en"}, "pt", "pt"),
        ({"Accept-Language": "pt"}, "xx", "pt"),
    ],
)
def test_the_nearest_choice_wins(app: Any, headers: Any, cookie: Any, language: str) -> None:
    if cookie:
        app.set_cookie(i18n.COOKIE, cookie)
    assert f'lang="{language}"' in app.get("/help", headers=headers).text.split("<head>")[0]


def test_the_institution_s_language_comes_last(app: Any) -> None:
    page = app.get("/help", extra_environ={"HTTP_HOST": "laboratory.localhost:8444"})
    assert "Ajuda" in page.text
    assert "Laboratório do Tejo" in page.text


def test_choosing_a_language(app: Any) -> None:
    form = app.get("/privacy").forms[0]
    assert form.action == "/language"
    answer = form.submit("language", value="pt")
    assert answer.location == "https://hospital.localhost:8443/privacy"
    assert "secure" in answer.headers["Set-Cookie"]
    assert "Privacidade" in answer.follow().text


@pytest.mark.parametrize("language", ["", "xx", "EN"])
def test_there_is_no_other_language(app: Any, language: str) -> None:
    form = app.get("/privacy").forms[0]
    data = {"csrf_token": form["csrf_token"].value, "language": language}
    app.post("/language", data, status=400)


def test_the_language_switch_sends_nobody_away(app: Any) -> None:
    form = app.get("/privacy").forms[0]
    form["next"].force_value("https://evil.example/")
    answer = form.submit("language", value="pt")
    assert answer.location == "https://hospital.localhost:8443/"


def test_dates(wsgi: Any) -> None:
    day = date(2025, 3, 7)
    assert i18n.format_date(asking(wsgi), day) == "7 March 2025"
    assert i18n.format_date(asking(wsgi, "pt"), day) == "7 de março de 2025"


def test_instants_are_told_at_the_institution_s_clock(wsgi: Any) -> None:
    instant = datetime(2025, 7, 31, 23, 30, 5, tzinfo=UTC)
    lisbon = SimpleNamespace(time_zone="Europe/Lisbon")
    assert i18n.format_datetime(asking(wsgi), instant) == "31 July 2025, 23:30"
    assert i18n.format_datetime(asking(wsgi, tenant=lisbon), instant) == "1 August 2025, 00:30"
    assert i18n.format_date(asking(wsgi, tenant=lisbon), instant) == "1 August 2025"
    assert i18n.format_datetime(asking(wsgi, "pt"), instant, seconds=True).endswith(", 23:30:05")
    with pytest.raises(ValueError, match="naive"):
        i18n.format_datetime(asking(wsgi), datetime(2025, 7, 31))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("number", "english", "portuguese"),
    [
        (1131, "1,131", "1 131"),
        (12345, "12,345", "12 345"),
        (Decimal("13.40"), "13.40", "13,40"),
        (Decimal("-0.5"), "-0.5", "-0,5"),
        (Decimal("1E+3"), "1,000", "1 000"),
    ],
)
def test_numbers_keep_every_decimal(wsgi: Any, number: Any, english: str, portuguese: str) -> None:
    assert i18n.format_number(asking(wsgi), number) == english
    written = i18n.format_number(asking(wsgi, "pt"), number)
    assert written.replace("\N{NO-BREAK SPACE}", " ") == portuguese


def test_a_count_chooses_the_form(wsgi: Any) -> None:
    for language in ("en", "pt"):
        request = asking(wsgi, language)
        assert i18n.plural(request, "${n} thing", "${n} things", 1) == "1 thing"
        assert i18n.plural(request, "${n} thing", "${n} things", 1200).endswith("200 things")
        assert Helpers(request).plural("${n} thing", "${n} things", 0) == "0 things"


def test_borrowed_sentences_are_translated_and_mended(wsgi: Any) -> None:
    from colander import _ as theirs

    assert asking(wsgi).localizer.translate(theirs("Required")) == "Fill this in."
    assert asking(wsgi, "pt").localizer.translate(theirs("Required")) == "Preencha este campo."
    # Not replaced by us, so it is colander's own translation.
    assert asking(wsgi, "pt").localizer.translate(theirs("Invalid time")) == "Hora inválida"


def test_outside_a_request_words_stay_as_they_are() -> None:
    assert i18n.chameleon_translate(_("Save ${n}", mapping={"n": 1})) == "Save 1"
    assert i18n.chameleon_translate(7) == "7"
    assert i18n.chameleon_translate(None) is None


def test_helpers_for_templates(wsgi: Any) -> None:
    request = asking(wsgi, "pt")
    h = Helpers(request)
    assert h.time(date(2025, 3, 7)).startswith('<time datetime="2025-03-07">7 de')
    assert "T12:00:00+00:00" in h.time(datetime(2025, 3, 7, 12, tzinfo=UTC))
    assert h.tag("bad", "<b>") == '<span class="tag" data-kind="bad">&lt;b&gt;</span>'
    with pytest.raises(ValueError, match="kind"):
        h.tag("purple", "x")
