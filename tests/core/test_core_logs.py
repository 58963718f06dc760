"""What libraries log leaves the process as JSON and without values."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from medportal.logs import LibraryFormatter

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Amanda Example, 30000000"


def line(message: object, *args: object, error: Exception | None = None) -> str:
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("driver", logging.WARNING, "driver.py", 7, message, args, info)
    return LibraryFormatter().format(record)


def test_the_pattern_of_a_message_is_told_and_its_values_are_not():
    said = json.loads(line("row %s of %r is odd", SECRET, SECRET, error=ValueError(SECRET)))
    del said["timestamp"]
    assert said == {
        "event": "library",
        "kind": "ValueError",
        "level": "warning",
        "library": "driver",
        "pattern": "row %s of %r is odd",
        "place": "driver:7",
    }


@pytest.mark.parametrize("message", [f"row {SECRET} is odd", ValueError(SECRET)])
def test_a_message_that_was_put_together_before_is_not_told(message):
    said = line(message)
    assert SECRET not in said
    assert "pattern" not in json.loads(said)


def test_a_process_without_an_ini_file_logs_so():
    code = (
        "import logging; from medportal.logs import configure_logging; configure_logging();"
        f"logging.getLogger('driver').warning('lost %s', {SECRET!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["pattern"] == "lost %s"
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    "ini", ["development.ini", "production.ini", "deploy/seven-hosts/conf/portal.ini"]
)
def test_the_ini_files_say_so(ini):
    code = (
        "import logging.config, sys; logging.config.fileConfig(sys.argv[1]);"
        f"logging.getLogger('driver').warning('lost %s', {SECRET!r})"
    )
    command = [sys.executable, "-c", code, str(ROOT / ini)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["pattern"] == "lost %s"
    assert SECRET not in done.stderr
