"""Whoever reads the audit log meets no code that has words."""

import pytest

from medportal.admin import words
from medportal.admin.models import ApprovalKind, ApprovalState
from medportal.audit.events import Action, Outcome
from medportal.core.reasons import Reason


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (Action, words.ACTIONS),
        (Outcome, words.OUTCOMES),
        (Reason, words.REASONS),
        (ApprovalKind, words.KINDS),
        (ApprovalState, words.STATES),
    ],
)
def test_every_code_has_words(codes, told):
    assert set(codes) == set(told)


def test_a_partners_code_keeps_its_form():
    assert words.reason_words("unheard-of") == "unheard-of"
    assert words.reason_words("left") == words.REASONS[Reason.LEFT]
