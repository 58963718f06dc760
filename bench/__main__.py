"""``python -m bench``: every bench after the other, JSON lines."""

from bench import (
    access_log,
    audit_log,
    backup,
    decisions,
    outbox,
    rotation,
    sealing,
    sign_ins,
)

if __name__ == "__main__":
    outbox.main([])
    sign_ins.main()
    decisions.main()
    access_log.main([])
    audit_log.main()
    backup.main([])
    sealing.main()
    rotation.main([])
