"""What can go wrong in the delivery room (PURE)."""

from medportal.core.errors import MedportalError


class DeliveryError(MedportalError):
    """Root of this room's errors."""


class NoSuchTransition(DeliveryError):
    """The event cannot happen to a delivery in this state."""


class MalformedDelivery(DeliveryError):
    """An id, a digest or a pseudonym of the wrong shape was about to be stored."""


class LostLease(DeliveryError):
    """The claim is no longer this worker's: somebody else claimed, settled or recalled the row.

    Nothing was written. What the partner did is not lost: the row is asked about again and
    the partner answers with the receipt that it has already issued.
    """


class NotAwaiting(DeliveryError):
    """An inbox item does not wait for this step (any more)."""


class HeadWentBack(DeliveryError):
    """A partner's log head contradicts the one already held: smaller, or another root."""
