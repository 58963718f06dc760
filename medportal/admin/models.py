"""What waits for a second person; the table is kept with the accounts it is about."""

from medportal.identity.models_approvals import Approval, ApprovalKind, ApprovalState

__all__ = ["Approval", "ApprovalKind", "ApprovalState"]
