"""The people of the original are here with the numbers and roles they had."""

from medportal.demo.people import citizen_numbers, people

ORIGINAL = {
    ("hospital", "admin", "André Proenza", "12345678"),
    ("hospital", "doctor", "Ana Albuquerque", "19573526"),
    ("hospital", "ward_clerk", "Hélder Costa", "15378965"),
    ("hospital", "patient", "Amanda Júlio", "17645234"),
    ("hospital", "porter", "Henrique Jota", "17564920"),
    ("hospital", "volunteer", "Madalena Afonso", "17564532"),
    ("hospital", "patient_assistant", "Alexandre Pinto", "14789078"),
    ("hospital", "clinical_assistant", "Mariana Rita", "18509738"),
    ("laboratory", "admin", "André Proenza", "12345678"),
    ("laboratory", "responsible", "Paulo Marques", "15288625"),
}


def everybody() -> list[tuple[str, str, str, str]]:
    return [
        (one.tenant, one.role, one.name, one.citizen_number)
        for tenant in ("hospital", "laboratory")
        for one in people(tenant)
    ]


def test_the_original_is_complete_and_the_wanted_people_are_added() -> None:
    assert set(everybody()) >= ORIGINAL
    roles = [(tenant, role) for tenant, role, _, _ in everybody()]
    assert roles.count(("hospital", "doctor")) == 2
    assert roles.count(("hospital", "nurse")) == 1
    assert roles.count(("hospital", "admin")) == roles.count(("laboratory", "admin")) == 2


def test_a_number_is_one_citizen_and_has_eight_digits() -> None:
    names = {number: name for _, _, name, number in everybody()}
    assert {(name, number) for _, _, name, number in everybody()} == {
        (name, number) for number, name in names.items()
    }
    assert all(number.isdigit() and len(number) == 8 for number in names)
    assert set(names) == citizen_numbers()


def test_one_account_for_a_citizen_at_an_institution() -> None:
    accounts = [(tenant, number) for tenant, _, _, number in everybody()]
    assert len(accounts) == len(set(accounts))


def test_mail_reaches_nobody() -> None:
    for tenant in ("hospital", "laboratory"):
        assert all(one.email.endswith(f"@{tenant}.example") for one in people(tenant))
    assert people("elsewhere") == ()
