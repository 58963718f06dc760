"""What can go wrong with an erasure. No message holds a name, a number or a key."""

from datetime import date

from medportal.core.errors import MedportalError


class ErasureError(MedportalError):
    """The root of the family."""


class StillToBeKept(ErasureError):
    """The duty to keep the patient's records has not run out; ``until`` is when it does."""

    def __init__(self, until: date) -> None:
        self.until = until
        super().__init__("the records are still to be kept")


class AlreadyAsked(ErasureError):
    """An erasure of this patient was asked for and is not decided yet."""


class NothingAsked(ErasureError):
    """No erasure waits here: none was asked for, or it was decided or withdrawn meanwhile."""


class SamePerson(ErasureError):
    """Who asks does not decide, and nobody decides about their own record."""


class TooEarly(ErasureError):
    """The patient still has time to take the record along."""


class AlreadyErased(ErasureError):
    """What was kept about this patient is erased."""


class NotOffered(ErasureError):
    """The patient has no address for the mail, and nobody said that they were told on paper."""


class NotGrounded(ErasureError):
    """An erasure that is marked as agreed to, and that two people did not decide."""


class NotYetProven(ErasureError):
    """An erasure whose events the audit log has not numbered yet: it waits for that."""


class LedgerDamaged(ErasureError):
    """The ledger of erasures was changed, reordered or cut in the middle, or is not ours."""
