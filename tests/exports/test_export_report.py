"""What the command says of a file: words for people, rows for programs, exit statuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from export_files import copy_of, file_of, found, hospital_record, laboratory_record

from medportal.cli import main

ROOT = Path(__file__).resolve().parents[2]


def run(file: Path, *authorities: Path, options: tuple[str, ...] = (), as_json: bool = False):
    words = ["--config", str(ROOT / "development.ini"), *(["--json"] if as_json else [])]
    words += ["record", "verify", str(file)]
    for path in authorities:
        words += ["--ca", str(path)]
    return CliRunner().invoke(main, [*words, *options])


@pytest.fixture
def file(tmp_path, hospital, laboratory) -> Path:
    path = tmp_path / "records.json"
    copies = [copy_of(laboratory, laboratory_record()), copy_of(hospital, hospital_record())]
    path.write_bytes(file_of(hospital, copies, left_out=("9" * 32,)))
    return path


def test_a_right_file(file, hospital, laboratory):
    result = run(file, hospital.ca_file, laboratory.ca_file, options=("--show",))
    assert result.exit_code == 0
    assert "RIGHT: 2026-02-20 laboratory, Paulo Marques, version 1 (final)." in result.output
    assert "COMPLETE: made by hospital" in result.output
    assert "Left out when the file was made" in result.output
    for said in ("Potassium", "5.0 mmol/L", "152/81", "A+", "Hipertensão", "Amanda Júlio"):
        assert said in result.output


def test_rows_for_programs(file, hospital, laboratory):
    result = run(file, hospital.ca_file, laboratory.ca_file, as_json=True)
    first, second, whole = map(json.loads, result.output.splitlines())
    assert (first["finding"], first["institution"]) == ("right", "laboratory")
    assert second["time_is_vouched_for"] is True
    assert whole["what"] == "file" and whole["left_out"] == ["9" * 32]


def test_an_authority_that_was_not_given(file, hospital, laboratory):
    result = run(file, laboratory.ca_file)
    assert result.exit_code == 3
    assert "UNKNOWN SIGNER" in result.output and "NOT KNOWN WHETHER COMPLETE" in result.output
    assert "is the signer's word alone" in result.output


def test_a_changed_file(file, hospital, laboratory):
    file.write_bytes(file.read_bytes().replace(b'"gender":"female"', b'"gender":"male"', 1))
    result = run(file, hospital.ca_file, laboratory.ca_file, options=("--show",))
    assert result.exit_code == 1
    assert "CHANGED" in result.output
    assert "what programs read is not what was signed" in result.output
    # What was changed is not shown as if it were a record.
    assert "Potassium" not in result.output


def test_a_file_that_is_none(tmp_path, hospital):
    path = tmp_path / "x"
    for data in (b"", b"%PDF-1.7\n%%EOF", b"{}", b"\0" * 100):
        path.write_bytes(data)
        result = run(path, hospital.ca_file)
        assert result.exit_code == 2
        assert "medportal: The " in result.output and "Traceback" not in result.output
    assert run(path, path).exit_code == 2
    assert run(path).exit_code == 2


def test_a_list_of_withdrawn_certificates_counts(file, tmp_path, hospital, laboratory):
    given = tmp_path / "list.crl"
    given.write_bytes(laboratory.keys.crl_der)
    options = ("--crl", str(given))
    assert run(file, hospital.ca_file, laboratory.ca_file, options=options).exit_code == 0
    given.write_bytes(b"-----BEGIN nonsense")
    refused = run(file, hospital.ca_file, laboratory.ca_file, options=options)
    assert refused.exit_code == 2 and "is no revocation list" in refused.output
    impostor = found(tmp_path / "other", "laboratory")
    given.write_bytes(impostor.keys.crl_der)
    assert run(file, hospital.ca_file, laboratory.ca_file, options=options).exit_code == 2


def test_what_a_file_says_moves_no_terminal(tmp_path, hospital, laboratory):
    name = "Paulo\u00a0Marques"
    path = tmp_path / "records.json"
    copy = copy_of(laboratory, laboratory_record(author_name=name, notes="a\tb"))
    path.write_bytes(file_of(hospital, [copy]))
    result = run(path, hospital.ca_file, laboratory.ca_file, options=("--show",))
    assert result.exit_code == 0 and "\t" not in result.output and "\x1b" not in result.output
