"""The runner of faults, importable wherever pytest is started from."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))

#: A run with kills takes minutes and is run by `make faults-test`; the verdict, the plan and the
#: relay are tested in every run.
if "MEDPORTAL_FAULTS" not in os.environ:
    collect_ignore = ["test_fault_run.py"]
