"""``python -m bench``: every bench after the other, JSON lines."""

import json
import shutil

from bench import (
    access_log,
    audit_log,
    backup,
    decisions,
    exchange,
    outbox,
    patient_page,
    rotation,
    sealing,
    sign_ins,
    traffic,
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
    traffic.main(["200000"])
    exchange.main([])
    exchange.main(["--scale"])
    if shutil.which("wrk"):
        patient_page.main([])
    else:
        print(json.dumps({"bench": "patient_page", "not_run": "wrk is not installed"}))
