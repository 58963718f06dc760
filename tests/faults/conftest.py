"""The runner of faults, importable wherever pytest is started from."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
