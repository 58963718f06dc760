"""One clerk at the desk who wants to read a child's record, and everything done alone for it.

The search takes sequences of what a clerk does alone: renames an accomplice who is a patient,
registers the parent's number, names the parent, issues codes, ends what was agreed, and presses
the buttons that are a colleague's. In between an honest colleague compares the parent's genuine
papers, agrees, and hands the code to the parent. A control, in which the colleague colludes,
shows that the search finds a way where there is one.
"""

from dataclasses import dataclass, field
from datetime import date
from itertools import count, permutations
from typing import Any

import pytest
from care_helpers import new_patient, new_staff, note_needs
from sqlalchemy import select
from test_patient_details import decide, details_of, send
from test_representatives import agree, name_somebody, rows_of

from medportal.core.clock import utcnow
from medportal.identity import codes
from medportal.identity.credentials import set_password
from medportal.identity.people import find_person
from medportal.patients.models import DetailsChange, Patient

GOOD, EVIL = "quiet rivers carry small boats", "seven lamps over the harbour"
SECRET = "Penicillin"
PARENT = {"name": "Parent Pereira", "day": "1", "month": "2", "year": "1985"}
AFTER = ("end", "register", "code")
_numbers = count(66_000_001)


@dataclass
class Desk:
    """Two clerks, a child, its parent's number, and what the first clerk has got hold of."""

    portal: Any
    clerk: Any
    colleague: Any
    collude: bool = False
    parent_activates: bool = False
    child: str = ""
    accomplice: str = ""
    own_number: str = ""
    number: str = ""
    codes: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Let somebody come whom nobody knows, and a child whose record there is to read."""
        self.child = new_patient(self.portal, "Child Pereira", born=date(2019, 5, 6))
        note_needs(self.portal, self.child)
        self.number, self.own_number = str(next(_numbers)), str(next(_numbers))
        self.accomplice = new_patient(self.portal, "Accomplice Abreu", number=self.own_number)
        policy = self.portal.settings.tenant("hospital").passwords
        with self.portal.session("hospital") as session, session.begin():
            set_password(session, self.accomplice, policy, EVIL, utcnow())
        self.codes.clear()

    def do(self, deeds: tuple[str, ...]) -> None:
        for deed in deeds:
            getattr(self, deed)()

    def rename(self) -> None:
        send(details_of(self.clerk, self.accomplice), number=self.number, **PARENT)
        with self.portal.session("hospital") as session:
            asked = session.scalar(
                select(DetailsChange.id).where(DetailsChange.patient_id == self.accomplice)
            )
        assert asked is not None
        path = f"/patients/{self.accomplice}/details/{asked}/agree"
        self.clerk.post(path, {}, expect_errors=True)
        if self.collude:
            decide(self.colleague, self.accomplice, "agree")

    def register(self) -> None:
        form = self.clerk.get("/patients/register").forms["form"]
        for name, value in {"number": self.number, "sex": "male", **PARENT}.items():
            form[name].force_value(value)
        self._see(form.submit(expect_errors=True))

    def name(self) -> None:
        name_somebody(self.clerk, self.child, number=self.number)
        (row,) = rows_of(self.portal, self.child)
        path = f"/patients/{self.child}/representatives/{row.id}/agree"
        self.clerk.post(path, {}, expect_errors=True)

    def agreed(self) -> None:
        page = agree(self.colleague, self.child)
        assert page.status_int == 200
        code = page.html.select_one("#activation-code")
        if self.collude:
            self._see(page)
        elif code is not None and self.parent_activates:
            assert self._activate(code.get_text(strip=True), GOOD)

    def code(self) -> None:
        with self.portal.session("hospital") as session:
            known = find_person(session, "citizen-card", self.number)
            if known is None or session.get(Patient, known) is None:
                return
        form = self.clerk.get(f"/patients/{known}/code").forms.get("form")
        answer = form.submit(expect_errors=True) if form else None
        if answer is None:
            path = f"/patients/{known}/code"
            answer = self.clerk.post(path, {}, expect_errors=True)
        self._see(answer)

    def end(self) -> None:
        (row,) = rows_of(self.portal, self.child)
        path = f"/patients/{self.child}/representatives/{row.id}/end"
        self.clerk.post(path, {}, status=303)

    def reads(self) -> bool:
        """Tell whether the child's record opens with anything that the clerk or accomplice has."""
        for code in self.codes:
            self._activate(code, EVIL)
        for number in (self.number, self.own_number):
            browser = self.portal.browser()
            browser.sign_in(number, EVIL)
            if SECRET in browser.get(f"/patients/{self.child}", expect_errors=True).text:
                return True
        return False

    def _see(self, page: Any) -> None:
        found = page.html.select_one("#activation-code") if page.status_int == 200 else None
        if found is not None:
            self.codes.append(found.get_text(strip=True))

    def _activate(self, code: str, password: str) -> bool:
        form = self.portal.browser().get("/activate").forms["form"]
        form["number"], form["code"] = self.number, code
        form["new"] = form["again"] = password
        return bool(form.submit(expect_errors=True).status_int == 303)


@pytest.fixture
def desk(portal, monkeypatch):
    # Dozens of codes are made, and none of it is about how slow that is.
    monkeypatch.setattr(codes, "_MEMORY_KIB", 8)
    monkeypatch.setattr(codes, "_TIME_COST", 1)
    _id, colleague = new_staff(portal, "ward_clerk", "Honest colleague")
    return Desk(portal, portal.signed_in("ward_clerk"), colleague)


@pytest.mark.parametrize("parent_activates", [True, False], ids=["in-use", "not-yet"])
@pytest.mark.parametrize(
    "before", [(), ("rename",), ("register",)], ids=lambda b: "".join(b) or "-"
)
def test_one_clerk_finds_no_way(desk, before, parent_activates):
    desk.parent_activates = parent_activates
    for after in [chosen for length in range(3) for chosen in permutations(AFTER, length)]:
        deeds = (*before, "name", "agreed", *after)
        desk.begin()
        desk.do(deeds)
        assert not desk.reads(), deeds


@pytest.mark.parametrize(
    "before", [(), ("rename",), ("register",)], ids=lambda b: "".join(b) or "-"
)
def test_two_who_collude_find_one(desk, before):
    desk.collude = True
    desk.begin()
    desk.do((*before, "name", "agreed"))
    assert desk.reads()
