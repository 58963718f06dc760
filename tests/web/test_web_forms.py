"""Forms: markup that a screen reader understands, and input of every kind."""

import re
from typing import Any

import pytest
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RIGHT = [
    ("number", "12345678"),
    ("secret", "correct horse"),
    ("__start__", "born:mapping"),
    ("day", "7"),
    ("month", "3"),
    ("year", "1949"),
    ("__end__", "born:mapping"),
    ("height", "170.5"),
    ("sex", "f"),
    ("ward", "a"),
    ("__start__", "needs:sequence"),
    ("checkbox", "w"),
    ("__end__", "needs:sequence"),
    ("consent", "true"),
    ("notes", "Well."),
]


def token_of(page: Any) -> str:
    return str(re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1])  # type: ignore[index]


def submit(app: Any, controls: list[tuple[str, str]], path: str = "/form") -> Any:
    token = token_of(app.get("/help"))
    return app.post(path, [("csrf_token", token), *controls], expect_errors=True)


def changed(name: str, value: str | None) -> list[tuple[str, str]]:
    kept = [(n, value if n == name else v) for n, v in RIGHT]
    return [(n, v) for n, v in kept if v is not None]


def test_right_input_goes_through_and_is_said_once(app: Any) -> None:
    answer = submit(app, RIGHT)
    assert answer.status_int == 303
    page = answer.follow()
    assert '<div class="notice" data-kind="ok" role="status"><p>Save</p>' in page.text
    assert 'role="status"><p>Save' not in app.get("/gallery").text


def test_every_input_has_a_label_a_type_and_no_inline_code(app: Any) -> None:
    page = BeautifulSoup(app.get("/form").text, "html.parser")
    form = page.find("form", id="form")
    inputs = form.find_all(["input", "select", "textarea"])
    visible = [tag for tag in inputs if tag.get("type") != "hidden"]
    assert len(visible) == 13
    for tag in visible:
        assert page.find("label", attrs={"for": tag["id"]}), tag
        assert not [name for name in tag.attrs if name.startswith("on") or name == "style"]
    assert len({tag["id"] for tag in visible}) == len(visible)
    number = page.find(id="form-number")
    assert number["autocomplete"] == "username"
    assert number["inputmode"] == "numeric"
    assert number["aria-required"] == "true"
    assert number["aria-describedby"] == "help-form-number"
    assert page.find(id="form-born-year")["autocomplete"] == "bday-year"
    assert page.find(id="form-secret")["type"] == "password"


def test_optional_fields_say_so_in_words(app: Any) -> None:
    page = BeautifulSoup(app.get("/form").text, "html.parser")
    marked = {tag.parent.get_text(" ", strip=True) for tag in page.select(".optional")}
    assert marked == {
        "Height (optional)",
        "Ward (optional)",
        "Support needs (optional)",
        "Notes (optional)",
    }


def test_errors_are_summed_up_with_links_and_tied_to_their_fields(app: Any) -> None:
    answer = submit(app, changed("number", "123"))
    assert answer.status_int == 422
    page = BeautifulSoup(answer.text, "html.parser")
    assert page.title.get_text(" ", strip=True).startswith("Error:")
    (link,) = page.select(".error-summary a")
    assert link.get_text() == "Citizen card number: Use at least 8 characters."
    field = page.find(id=link["href"][1:])
    assert field["aria-invalid"] == "true"
    described = field["aria-describedby"].split()
    assert described == ["help-form-number", "error-form-number"]
    assert "Use at least 8 characters." in page.find(id=described[1]).get_text()
    assert field["value"] == "123"


def test_a_password_is_never_sent_back(app: Any) -> None:
    answer = submit(app, changed("number", "123"))
    assert "correct horse" not in answer.text
    assert "Use at least" in answer.text


def test_groups_are_described_as_a_whole(app: Any) -> None:
    answer = submit(app, [c for c in changed("day", "") if c[0] != "sex"])
    page = BeautifulSoup(answer.text, "html.parser")
    targets = [link["href"] for link in page.select(".error-summary a")]
    assert targets == ["#form-born", "#form-sex-0"]
    for target in targets:
        assert page.select_one(target) is not None
    assert (
        page.find(id="form-sex-0").find_parent("fieldset")["aria-describedby"] == "error-form-sex"
    )
    assert "Enter day, month and year." in answer.text


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("month", "13", "There is no such date. Check day, month and year."),
        ("day", "x", "There is no such date. Check day, month and year."),
        ("year", "49", "There is no such date. Check day, month and year."),
        ("height", "tall", "Enter a number."),
        ("sex", "z", "Choose one of the options."),
        ("number", "1" * 9, "Use at most 8 characters."),
        ("number", "", "Fill this in."),
    ],
)
def test_words_for_what_is_wrong(app: Any, name: str, value: str, words: str) -> None:
    answer = submit(app, changed(name, value))
    assert answer.status_int == 422
    assert words in answer.text


def test_the_words_are_portuguese_where_that_is_the_language(app: Any) -> None:
    app.set_cookie("__Host-lang", "pt")
    answer = submit(app, changed("month", "13"))
    assert "Essa data não existe." in answer.text
    assert "Há um problema" in answer.text


def test_errors_found_later_are_shown_alike(app: Any) -> None:
    answer = submit(app, changed("number", "99999999"))
    page = BeautifulSoup(answer.text, "html.parser")
    shown = [tag.get_text(" ", strip=True) for tag in page.select(".error-summary li")]
    assert shown == ["Nothing fits.", "Citizen card number: is not known here"]
    assert answer.status_int == 422


def test_what_was_typed_comes_back_escaped(app: Any) -> None:
    answer = submit(app, changed("number", '"><script>alert(1)</script>'))
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text


@pytest.mark.parametrize(
    "controls",
    [
        [("__start__", "a:mapping")],
        [("__end__", "a:mapping")],
        [("__start__", "a:nonsense"), ("__end__", "a:nonsense")],
        [("__start__", "number:sequence"), ("x", "1"), ("__end__", "number:sequence")],
        [("__start__", "number:mapping"), ("x", "1"), ("__end__", "number:mapping")],
        [("born", "1949-03-07")],
        [("__start__", "born:sequence"), ("day", "1"), ("__end__", "born:sequence")],
        [("__start__", "born:mapping"), ("day", "1"), ("__end__", "born:mapping")],
        [("needs", "w")],
        [
            ("__start__", "needs:sequence"),
            ("__start__", "x:sequence"),
            ("__end__", "x:sequence"),
            ("__end__", "needs:sequence"),
        ],
        [("notes", "x" * 20_001)],
        [("notes", "a\x00b")],
        [(f"f{n}", "1") for n in range(600)],
        [("__start__", "a:mapping")] * 499,
    ],
)
def test_what_no_browser_makes_of_the_form_is_refused(
    make_app: Any, controls: list[tuple[str, str]]
) -> None:
    answer = submit(make_app({}), controls)
    assert answer.status_int == 400
    assert "could not be understood" in answer.text


def test_a_file_in_place_of_text_is_refused(app: Any) -> None:
    token = token_of(app.get("/help"))
    answer = app.post(
        "/form",
        {"csrf_token": token},
        upload_files=[("number", "a.txt", b"12345678")],
        expect_errors=True,
    )
    assert answer.status_int == 400


NAMES = st.sampled_from(
    [name for name, _value in RIGHT] + ["checkbox", "__start__", "__end__", "x"]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["born:mapping", "needs:sequence", "number:rename", "x:ignore", "true", ":"]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, VALUES), max_size=20))
def test_no_input_at_all_is_a_crash(app: Any, controls: list[tuple[str, str]]) -> None:
    # The application keeps nothing between requests, so all examples may share one.
    answer = submit(app, controls)
    assert answer.status_int in {303, 400, 422}


def test_sections_are_fieldsets_and_come_back_as_mappings(wsgi: Any, app: Any) -> None:
    page = app.get("/section")
    section = BeautifulSoup(page.text, "html.parser").select_one("fieldset.section")
    assert section.legend.get_text() == "Blood pressure"
    assert section.select_one("#section-pressure-systolic")["value"] == "120"
    assert "btn-danger" in page.text
    form = page.forms["section"]
    form["systolic"] = "125"
    assert form.submit().status_int == 303
    assert wsgi.registry["taken"] == [{"hidden": "", "pressure": {"systolic": 125}}]


def test_the_form_of_another_part_of_the_page_is_left_alone(wsgi: Any, app: Any) -> None:
    answer = submit(app, [("__formid__", "another")], "/section")
    assert answer.status_int == 200
    assert wsgi.registry["taken"] == []


def test_errors_within_a_section_are_in_the_summary(app: Any) -> None:
    form = app.get("/section").forms["section"]
    form["systolic"] = "high"
    answer = form.submit(status=422)
    (link,) = BeautifulSoup(answer.text, "html.parser").select(".error-summary a")
    assert link["href"] == "#section-pressure-systolic"
    assert link.get_text() == "Systolic: Enter a number."
