"""What is wrong with a record is told by codes and places, never by values."""

from medportal.records.errors import RecordDamaged, RecordsError, StatementMismatch


def test_damage_is_told_by_a_code():
    error = RecordDamaged("signature")
    assert isinstance(error, RecordsError)
    assert error.code == str(error) == "signature"


def test_a_mismatch_names_its_field():
    error = StatementMismatch("author")
    assert error.field == "author"
    assert str(error) == "the author's statement does not fit: author"
