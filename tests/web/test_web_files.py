"""Fields for files: one file where a form has a field for it, and nowhere else."""

from typing import Any

import colander
import pytest
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.request import Request

from medportal.web import forms
from medportal.web.limits import MAX_PARTS, check_text

BOUNDARY = "----medportal"


class WithFile(colander.Schema):
    """A form with a text and a file."""

    name = colander.SchemaNode(colander.String(), missing="", widget=forms.text())
    picture = colander.SchemaNode(
        forms.FileData(),
        title="Picture",
        description="A PNG file.",
        missing=None,
        widget=forms.file("image/png"),
    )


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def sent(composed: Any, *parts: bytes) -> Request:
    """Return a request whose body has these parts, checked as every request is."""
    request = Request.blank(
        "/x",
        method="POST",
        body=b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    request.registry = composed.registry
    request.locale_name = "en"
    check_text(request)
    return request


def values_of(request: Request) -> Any:
    return forms.make_form(request, WithFile()).validate(request.POST.items())


@pytest.mark.parametrize("data", [b"abc", b"\x00\xff&&&\r\n", b"x" * 100_000])
def test_a_file_comes_through_byte_for_byte(composed: Any, data: bytes) -> None:
    request = sent(composed, part("name", b"x"), part("picture", data, "a.png"))
    assert values_of(request) == {"name": "x", "picture": data}


@pytest.mark.parametrize(
    "parts", [[], [part("picture", b"", "")], [part("picture", b"", "empty.png")]]
)
def test_no_file_is_nothing(composed: Any, parts: list[bytes]) -> None:
    request = sent(composed, part("name", b"x"), *parts)
    assert values_of(request) == {"name": "x", "picture": None}


@pytest.mark.parametrize(
    "parts",
    [
        [part("picture", b"a text in place of a file")],
        [part("name", b"x", "a.png")],
        [part("name", b"", "")],
        [part("other", b"x", "a.png")],
        [part("name", b"x"), part("__start__", b"picture:mapping")],
        [part("__start__", b"picture:sequence"), part("p", b"x", "a"), part("__end__", b"x")],
    ],
)
def test_what_no_browser_makes_of_the_form(composed: Any, parts: list[bytes]) -> None:
    request = sent(composed, *parts)
    with pytest.raises(HTTPBadRequest):
        values_of(request)


@pytest.mark.parametrize(
    "parts",
    [
        [part(f"f{n}", b"", f"{n}.png") for n in range(MAX_PARTS + 1)],
        [f"--{BOUNDARY}\r\n\r\n\r\n".encode()] * (MAX_PARTS + 1),
    ],
)
def test_many_parts_are_refused_before_they_are_taken_apart(
    composed: Any, parts: list[bytes]
) -> None:
    with pytest.raises(HTTPBadRequest):
        sent(composed, *parts)


def test_a_file_may_hold_any_number_of_ampersands(composed: Any) -> None:
    data = b"&" * 5000
    assert values_of(sent(composed, part("picture", data, "a.png")))["picture"] == data


def test_the_form_says_that_it_sends_a_file(composed: Any) -> None:
    markup = forms.make_form(sent(composed), WithFile()).render()
    assert 'enctype="multipart/form-data"' in markup
    assert 'type="file"' in markup
    assert 'accept="image/png"' in markup
    assert 'aria-describedby="help-form-picture"' in markup


def test_a_form_without_a_file_is_sent_as_before(composed: Any) -> None:
    schema = colander.Schema()
    schema.add(colander.SchemaNode(colander.String(), name="name", widget=forms.text()))
    assert "enctype" not in forms.make_form(sent(composed), schema).render()


def test_a_form_that_is_shown_again_shows_no_file(composed: Any) -> None:
    request = sent(composed, part("picture", b"marker-1", "a.png"))
    form = forms.make_form(request, WithFile())
    assert form.validate(request.POST.items()) is not None
    form.fail("picture", "is not good")
    assert "marker-1" not in form.render()
    assert 'aria-invalid="true"' in form.render()
