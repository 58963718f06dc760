"""What a server's answer means: only a missing mailbox is final."""

import pytest

from medportal.mail.replies import Meaning, of_content, of_recipient


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        (250, b"2.1.5 OK", Meaning.TAKEN),
        (251, b"will forward", Meaning.TAKEN),
        (252, b"cannot verify", Meaning.TAKEN),
        (550, b"5.1.1 no such user", Meaning.FINAL),
        (550, b"no such user", Meaning.FINAL),
        (551, b"not local", Meaning.FINAL),
        (553, b"5.1.3 bad address", Meaning.FINAL),
        (501, b"5.1.3 bad address", Meaning.FINAL),
        (550, b"5.2.1 mailbox disabled", Meaning.FINAL),
        (550, b"5.7.1 relaying denied", Meaning.LATER),
        (554, b"5.7.1 policy", Meaning.LATER),
        (552, b"5.2.2 mailbox full", Meaning.LATER),
        (450, b"4.2.0 greylisted", Meaning.LATER),
        (451, b"local error", Meaning.LATER),
        (452, b"4.2.2 full", Meaning.LATER),
        (421, b"4.3.2 shutting down", Meaning.SERVER),
        (454, b"4.7.0 temporary", Meaning.SERVER),
        (503, b"bad sequence", Meaning.SERVER),
        (530, b"5.7.0 sign in first", Meaning.SERVER),
        (535, b"5.7.8 bad credentials", Meaning.SERVER),
        (354, b"go on", Meaning.SERVER),
        (200, b"", Meaning.SERVER),
        (600, b"", Meaning.SERVER),
        (-1, b"", Meaning.SERVER),
    ],
)
def test_answers_to_a_recipient(code, text, meaning):
    assert of_recipient(code, text) is meaning


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        (250, b"2.0.0 queued", Meaning.TAKEN),
        (251, b"", Meaning.SERVER),
        (554, b"5.7.1 looks like spam", Meaning.LATER),
        (550, b"no", Meaning.LATER),
        (550, b"5.1.1 no such user", Meaning.FINAL),
        (552, b"too big", Meaning.LATER),
        (451, b"4.3.0 error", Meaning.LATER),
        (450, b"4.1.1 not now", Meaning.LATER),
        (421, b"bye", Meaning.SERVER),
        (530, b"sign in", Meaning.SERVER),
        (-1, b"", Meaning.SERVER),
    ],
)
def test_answers_to_a_text(code, text, meaning):
    assert of_content(code, text) is meaning
