"""Words of pages about results, and about those that were held back."""

from collections.abc import Mapping
from typing import Any

from medportal.core.reasons import Reason
from medportal.delivery.states import DeliveryReason
from medportal.records.content import RecordStatus
from medportal.web.i18n import _

#: What is told of a version that is not the first: kind of tag, words.
STATUS_WORDS: Mapping[str, tuple[str, Any]] = {
    RecordStatus.AMENDED: ("info", _("Added to")),
    RecordStatus.CORRECTED: ("warn", _("Corrected")),
    RecordStatus.ENTERED_IN_ERROR: ("bad", _("Taken back")),
}
#: Why a result was held back, as said to who decides about it.
HELD_WORDS: Mapping[DeliveryReason, Any] = {
    DeliveryReason.DEMOGRAPHICS_DIFFER: _(
        "Name or date of birth are not those that are registered here."
    ),
    DeliveryReason.PATIENT_AMBIGUOUS: _("It is not certain which patient is meant."),
    DeliveryReason.IDENTIFIER_MISMATCH: _(
        "The number does not belong to the patient for whom it was accepted."
    ),
    DeliveryReason.ORIGINAL_MISSING: _("The record that this one corrects has not arrived."),
    DeliveryReason.CORRECTION_UNFIT: _("It does not fit the record that it corrects."),
    DeliveryReason.CONTENT_INVALID: _("The content could not be read. The sender has to mend it."),
    DeliveryReason.SIGNATURE_INVALID: _(
        "The signature is not valid. Ask the sender; do not rely on anything they say was in it."
    ),
    DeliveryReason.DIGEST_CONFLICT: _("The sender sent something else under the same number."),
    DeliveryReason.CANNOT_OPEN: _("It could not be opened. Tell those who run this portal."),
    DeliveryReason.PARTNER_NOT_TRUSTED: _("The sender is not trusted here any more."),
    DeliveryReason.UNSPECIFIED: _("A fault here. Tell those who run this portal."),
}
HELD_OTHERWISE = _("It could not be filed.")
#: Why somebody decides that a result is not for this institution.
NOT_OURS_WORDS: Mapping[Reason, Any] = {
    Reason.NO_SUCH_THING: _("The person is not a patient here"),
    Reason.WRONG_DATA: _("It was sent with the wrong number, name or date of birth"),
    Reason.NOT_ASKED_FOR: _("The patient does not want it here"),
    Reason.NOT_AGREED: _("It was sent twice, or the sender asked us not to take it"),
}
