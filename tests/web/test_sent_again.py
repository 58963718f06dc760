"""What somebody sent stands on the page that says "not now", unless it is a secret."""

import pytest
from pyramid.request import Request

from medportal.web.errors import _sent

FORM = {"csrf_token": "t", "diagnosis": "fever", "diagnosis_code": "A00"}


def test_a_form_is_kept_in_its_order() -> None:
    fields = [("csrf_token", "t"), ("__start__", "a:mapping"), ("x", "1"), ("x", "2")]
    assert list(_sent(Request.blank("/", POST=fields))) == fields
    assert dict(_sent(Request.blank("/", POST=FORM))) == FORM


@pytest.mark.parametrize(
    "name", ["password", "new_password", "passkey", "code", "client_secret", "passphrase", "pin"]
)
def test_a_secret_is_not_put_on_a_page(name: str) -> None:
    assert _sent(Request.blank("/", POST={**FORM, name: "hunter2"})) == ()


def test_nor_is_what_was_no_form_of_ours() -> None:
    assert _sent(Request.blank("/", POST={"diagnosis": "fever"})) == ()
    assert _sent(Request.blank("/?csrf_token=t")) == ()
    assert _sent(Request.blank("/", POST={**FORM, "logo": ("a.png", b"x")})) == ()
