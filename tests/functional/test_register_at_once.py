"""Two clerks, one citizen, the same moment: the second is told, and nothing crashes."""

from functional_helpers import page_text

from medportal.identity import people as identity
from medportal.patients import service as patients

KNOWN = "17645234"


def test_a_number_that_is_taken_between_look_and_write(portal, monkeypatch):
    clerk = portal.signed_in("ward_clerk")
    form = clerk.get("/patients/register").forms["form"]
    form["number"] = KNOWN
    form["name"] = "Amanda Júlio"
    form["day"], form["month"], form["year"] = "3", "2", "1980"
    form["sex"] = "female"
    find, tries = identity.find_person, []

    def not_yet_there(session, scheme, number):
        # The first try looks before the other clerk's transaction is committed.
        return None if len(tries) < 2 else find(session, scheme, number)

    def patients_look(session, scheme, number):
        tries.append(number)
        return not_yet_there(session, scheme, number)

    monkeypatch.setattr(patients, "find_person", patients_look)
    monkeypatch.setattr(identity, "find_person", not_yet_there)
    answer = form.submit(expect_errors=True)
    assert tries == [KNOWN, KNOWN]
    assert answer.status_int < 500
    assert "Somebody with this number is registered as a patient already." in page_text(answer)
