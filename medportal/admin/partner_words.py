"""Partners in words: how trust, queue and transfers stand, and what to do about it."""

from typing import Any

from medportal.core.reasons import Reason
from medportal.delivery.states import DeliveryReason, DeliveryState
from medportal.pki.standing import PartnerStanding
from medportal.records.presentation import WHY
from medportal.web.i18n import _

#: Why an administrator holds what goes to a partner, as the form offers it.
HOLD_REASONS = {
    Reason.PARTNER_ASKED: _("The partner asked for it"),
    Reason.WORK_ON_SYSTEMS: _("Work on the systems, here or there"),
    Reason.SOMETHING_WRONG: _("Something looks wrong there"),
    Reason.OTHER: _("Another reason"),
}
STATES = {
    DeliveryState.WAITING: _("Waiting to be sent"),
    DeliveryState.RETRYING: _("Not delivered yet"),
    DeliveryState.UNKNOWN_PATIENT: _("No such patient there"),
    DeliveryState.REJECTED: _("Refused"),
    DeliveryState.WITHHELD: _("Not sent: a rule of the patient"),
}
#: What has no words on the page of a record, where the state says it already.
ALSO = {
    DeliveryReason.CREATED: _("New. It goes out with the next connection."),
    DeliveryReason.PATIENT_UNKNOWN: _(
        "The patient is not registered there, or does not want it there. We ask again."
    ),
    DeliveryReason.RULE_LIFTED: _("A rule of the patient stopped it before. It is sent now."),
    DeliveryReason.CORRECTION_UNFIT: _("It does not fit the record that it corrects there."),
    DeliveryReason.REJECTED_THERE: _("The partner gave no reason that is known here."),
    DeliveryReason.UNSPECIFIED: _("The partner gave no reason that is known here."),
}


def why(reason: DeliveryReason) -> Any:
    """Return why a transfer stands as it does, as a sentence."""
    return WHY.get(reason) or ALSO.get(reason) or str(reason)


def trust_tag(standing: PartnerStanding) -> tuple[str, Any]:
    """Return the kind of tag and the words for how much a partner is trusted."""
    if standing.revoked:
        return "bad", _("Revoked")
    if standing.days_left < 0:
        return "bad", _("Its certificate has ended")
    if standing.successor:
        return "warn", _("Has a new authority: compare its fingerprint, and trust it")
    return "ok", _("Trusted")
