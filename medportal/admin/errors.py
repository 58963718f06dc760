"""Errors of the admin room."""

from collections.abc import Mapping

from medportal.core.errors import MedportalError
from medportal.core.reasons import Reason
from medportal.tenancy.overlay import Why


class AdminError(MedportalError):
    """Something about administration that the caller has to tell."""


class ApprovalRefused(AdminError):
    """A request that cannot be made, or cannot be decided by whoever tries; ``reason`` says why.

    ``NOTHING_NEW``: it waits already, or was decided already. ``OVERTAKEN``: it no longer makes
    sense. ``SECOND_PERSON_NEEDED``: whoever asked for it cannot decide it.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(str(reason))


class SettingsRefused(AdminError):
    """A change of the institution's settings that is not made; see the kinds below."""


class SettingsOvertaken(SettingsRefused):
    """Somebody else changed the same settings meanwhile: version ``version`` counts now."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__("settings were changed meanwhile")


class SettingsUnfit(SettingsRefused):
    """Values that the institution's file does not allow; ``problems`` says which and why."""

    def __init__(self, problems: Mapping[str, Why]) -> None:
        self.problems = problems
        super().__init__("settings do not fit the file")


class SettingsUnchanged(SettingsRefused):
    """Nothing is different from what counts already."""

    def __init__(self) -> None:
        super().__init__("nothing is different")
