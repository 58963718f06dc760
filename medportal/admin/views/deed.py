"""A deed on its page: whom it is done to, the form that asks why, and what comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.request import Request

from medportal.admin import words
from medportal.admin.approvals import Asked
from medportal.admin.errors import ApprovalRefused
from medportal.admin.forms_deeds import deed_schema
from medportal.admin.models import ApprovalKind
from medportal.admin.views.answers import audit_deed, audit_request, patient_id
from medportal.audit.events import Action, Outcome
from medportal.core.reasons import Reason
from medportal.identity.accounts import Noted, Why
from medportal.identity.directory import PersonDetails
from medportal.identity.errors import AccountRefused
from medportal.web.flash import flash
from medportal.web.forms import Form, make_form
from medportal.web.i18n import _

Done = TypeVar("Done")
#: What to say where one administrator alone is not enough.
WAITS = _("A colleague has to approve this now. It waits on the page of approvals.")


@dataclass(frozen=True, slots=True)
class Deed:
    """What one request does to somebody's account; ``action`` is its event in the audit log."""

    request: Request
    person: PersonDetails
    action: Action
    form: Form

    def carry_out(self, service: Callable[[Why, dict[str, Any]], Done]) -> Done | None:
        """Do what the form asks for; ``None`` if it has to be shown, or shown again.

        What is refused is audited with its reason, and said in words.
        """
        request, form = self.request, self.form
        values = form.validate(request.POST.items()) if request.method == "POST" else None
        if values is None:
            return None
        why = Why(request.identity.person_id, Reason(values["reason"]), values["note"])
        try:
            return service(why, values)
        except (AccountRefused, ApprovalRefused) as error:
            request.audit(
                self.action,
                Outcome.DENIED,
                object=self.person.id,
                patient=patient_id(self.person),
                reasons=[error.reason],
            )
            form.fail(None, words.REFUSALS[error.reason])
            return None

    def page(self, title: Any, *consequences: Any, nothing: Any = None) -> dict[str, Any]:
        """Return what the page shows; ``nothing`` says why there is nothing to do."""
        if self.person.id == self.request.identity.person_id:
            nothing = words.REFUSALS[Reason.OWN_ACCOUNT]
        return {
            "person": self.person,
            "form": self.form,
            "title": title,
            "consequences": consequences,
            "nothing": nothing,
        }

    def done(self, note: Noted, message: Any, **details: str | int) -> HTTPSeeOther:
        """Audit what was done, and say it on the page of the person."""
        audit_deed(self.request, self.person, self.action, note, **details)
        return self._back(message)

    def waits(self, asked: Asked, kind: ApprovalKind, **details: str) -> HTTPSeeOther:
        """Audit that a second person has to agree, and say it on the page of the person."""
        audit_request(self.request, self.person, asked, kind, **details)
        return self._back(WAITS)

    def _back(self, message: Any) -> HTTPSeeOther:
        flash(self.request, message, "ok")
        return HTTPSeeOther(self.request.route_path("person", person=self.person.id))


def new_deed(
    request: Request,
    person: PersonDetails,
    action: Action,
    reasons: Sequence[Reason],
    submit: Any,
    *first: Any,
    danger: bool = False,
) -> Deed:
    """Return a deed whose form asks for one of ``reasons``, after the fields in ``first``."""
    form = make_form(request, deed_schema(reasons, *first), submit=submit, danger=danger)
    return Deed(request, person, action, form)
