"""When people are told that something ends, and how what there is stands."""

from datetime import timedelta

import pytest

from medportal.ops.certificates import remember_warning, warning_due
from medportal.pki import ca as authority
from medportal.pki.expiry import Stage, State, days_left, stage_at, state_of
from medportal.pki.profiles import Purpose
from medportal.pki.standing import standings

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("left", "stage"),
    [
        (30 * DAY + SECOND, None),
        (30 * DAY, 30),
        (7 * DAY + SECOND, 30),
        (7 * DAY, 7),
        (DAY, 1),
        (SECOND, 1),
        (0 * DAY, 0),
        (-400 * DAY, 0),
    ],
)
def test_stages(now, left, stage):
    assert stage_at(now + left, now) == (None if stage is None else Stage(stage))


def test_states(now):
    ends, renew = now + 3 * DAY, now + DAY
    assert state_of(ends, renew, now) is State.IN_USE
    assert state_of(ends, renew, renew) is State.RENEW
    assert state_of(ends, renew, ends) is State.EXPIRED
    assert state_of(ends, renew, now, is_revoked=True) is State.REVOKED
    assert [days_left(ends, now), days_left(now, now), days_left(now, now + SECOND)] == [3, 0, -1]


def keep_list_fresh(hospital, now):
    authority.make_crl(hospital.pki, ca_passphrase=hospital.passphrases["ca"], now=now)


def test_each_warning_is_given_once(hospital, now):
    ends = now + timedelta(days=365)
    said = []
    for left in (60, 31, 30, 29, 8, 7, 6, 1, 0, -1, -2):
        moment = ends - left * DAY
        keep_list_fresh(hospital, moment)
        due = warning_due(hospital.pki, moment)
        if due is not None:
            said.append((left, due.days))
            remember_warning(hospital.pki, due)
    assert said == [(30, 30), (7, 7), (1, 1), (0, 0)]


def test_what_was_renewed_is_told_of_anew(hospital, now):
    late = now + timedelta(days=340)
    keep_list_fresh(hospital, late)
    due = warning_due(hospital.pki, late)
    remember_warning(hospital.pki, due)
    assert warning_due(hospital.pki, late) is None
    for purpose in (Purpose.WEB, Purpose.RECORD):
        authority.issue(
            hospital.pki,
            purpose,
            dns_names=["hospital.localhost"] if purpose is Purpose.WEB else (),
            ca_passphrase=hospital.passphrases["ca"],
            group_passphrase=hospital.passphrases["portal"],
            now=late,
        )
    assert warning_due(hospital.pki, late) is None


def test_a_list_that_runs_out_is_told_of(hospital, now):
    assert warning_due(hospital.pki, now) is None
    assert warning_due(hospital.pki, now + 7 * DAY).days == 7
    assert warning_due(hospital.pki, now + 14 * DAY).days == 0


def test_what_is_withdrawn_says_so(hospital, now):
    [info] = [i for i in authority.inventory(hospital.pki) if i.purpose is Purpose.RECORD]
    authority.revoke(hospital.pki, info.serial, ca_passphrase=hospital.passphrases["ca"], now=now)
    states = {each.what: each.state for each in standings(hospital.pki, now)}
    assert states.pop("record") is State.REVOKED
    assert set(states.values()) == {State.IN_USE}
