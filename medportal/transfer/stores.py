"""The durable sides of both services, adapters onto delivery, patients and audit.

The sender's is in :mod:`medportal.transfer.outgoing`, the receiver's in
:mod:`medportal.transfer.incoming`, what both do about partners' logs in
:mod:`medportal.transfer.heads`.
"""

from medportal.transfer.incoming import SqlReceiverStore
from medportal.transfer.outgoing import LEASE, SqlSenderStore, receipt_facts, retry_reason

__all__ = ["LEASE", "SqlReceiverStore", "SqlSenderStore", "receipt_facts", "retry_reason"]
