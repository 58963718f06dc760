"""Obligations: what an answer that allows something asks for besides (PURE)."""

from enum import StrEnum


class Obligation(StrEnum):
    """What goes with a permission."""

    #: Prove who you are, again, before it is used.
    CONFIRM_FIRST = "confirm-first"
    #: The patient is told at once.
    TELL_PATIENT = "tell-patient"
    #: Somebody else looks at it afterwards.
    REVIEW = "review"
