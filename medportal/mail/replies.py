"""What a server's answers mean for a mail (PURE). RFC 5321 section 4.2, RFC 3463.

The rule is caution with what is final: a person's mail is given up at once only where the
server says that there is no such mailbox. Where it refuses us, our sign-in or our words, the
next try may be right.
"""

import re
from enum import Enum

#: Answers to a recipient or a text that speak of the conversation or of our sign-in.
_ABOUT_US = frozenset({421, 454, 500, 502, 503, 504, 521, 530, 534, 535, 538, 555})
#: "Requested mail action aborted: exceeded storage" is to be taken as 452 (RFC 5321, 4.5.3.1.10).
_FULL = 552
_ENHANCED = re.compile(rb"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")


class Meaning(Enum):
    """What to do about an answer."""

    TAKEN = "taken"
    #: Give the mail up.
    FINAL = "final"
    #: Try this mail later.
    LATER = "later"
    #: Something is wrong between the server and us: try later, and no other mail now.
    SERVER = "server"


def of_recipient(code: int, text: bytes) -> Meaning:
    """Return what an answer to RCPT TO means."""
    if code in {250, 251, 252}:
        return Meaning.TAKEN
    if code in _ABOUT_US or not 400 <= code <= 599:
        return Meaning.SERVER
    if code < 500 or code == _FULL or _subject(text) == 7:
        # X.7.X is policy: that we may not relay there, say.
        return Meaning.LATER
    return Meaning.FINAL


def of_content(code: int, text: bytes) -> Meaning:
    """Return what the answer after the text means."""
    if code == 250:
        return Meaning.TAKEN
    if code in _ABOUT_US or not 400 <= code <= 599:
        return Meaning.SERVER
    # X.1.X is the address: some servers look only now whether there is such a mailbox.
    return Meaning.FINAL if code >= 500 and _subject(text) == 1 else Meaning.LATER


def _subject(text: bytes) -> int | None:
    """Return the subject of an enhanced status code (RFC 3463), if there is one."""
    found = _ENHANCED.match(text)
    return int(found[2]) if found else None
