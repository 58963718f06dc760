"""The decoder under atheris, guided by coverage; ``python -m bench.fuzz --atheris`` starts it.

Takes libFuzzer's arguments. Needs atheris, which is no dependency of the project.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "transfer"))

with atheris.instrument_imports(include=["medportal", "crx_fuzzing"]):
    from crx_fuzzing import decode_one


def one_input(data: bytes) -> None:
    """Give one input to the decoder; anything but a named error is a finding."""
    decode_one(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
