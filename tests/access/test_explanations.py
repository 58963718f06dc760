"""Every event that can be about a patient is told, in words that stand by themselves."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medportal.access import explanations
from medportal.access.decisions import TABLE
from medportal.access.explanations import (
    DOWNLOADED,
    NEVER,
    ON_THE_WAY,
    OUTCOMES,
    PAGES,
    PROCESSES,
    REASONS,
    TOLD,
    TOPICS,
    UNTOLD,
    Topic,
    page_of,
    sentence_of,
    topic_actions,
    why,
)
from medportal.audit.events import Action, Event, Outcome
from medportal.core.reasons import Reason
from medportal.delivery.states import DeliveryReason
from medportal.routes import ROUTES

SOURCE = Path(explanations.__file__).parents[1]
NOW = datetime(2026, 3, 1, tzinfo=UTC)
TELLINGS = [*TOLD.values(), DOWNLOADED, UNTOLD]
#: Keywords by which a call names the patient of an event.
NAMES_A_PATIENT = {"patient"}


def event(action=Action.RECORD_READ, outcome=Outcome.ALLOWED, **details):
    return Event.create(action, outcome, now=NOW, actor="a" * 32, details=details)


def test_every_action_is_told_or_is_never_about_a_patient():
    assert set(TOLD) | NEVER == set(Action)
    assert not set(TOLD) & NEVER


def calls_about_patients():
    """Yield (file, action) of every call in our source that names an action and a patient."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = {keyword.arg for keyword in node.keywords}
            # "**context.why(...)" names the patient of the context.
            of_context = any(
                keyword.arg is None
                and isinstance(keyword.value, ast.Call)
                and isinstance(keyword.value.func, ast.Attribute)
                and keyword.value.func.attr == "why"
                for keyword in node.keywords
            )
            if not (named & NAMES_A_PATIENT or of_context):
                continue
            for argument in node.args:
                match argument:
                    case ast.Attribute(value=ast.Name(id="Action"), attr=name):
                        yield path.relative_to(SOURCE).as_posix(), Action[name]


def test_what_our_source_writes_about_patients_is_told():
    found = list(calls_about_patients())
    assert len(found) > 15, "the source is read"
    assert not [(path, str(action)) for path, action in found if action in NEVER]


def test_every_reason_is_a_sentence():
    assert set(REASONS) == set(Reason)
    assert set(ON_THE_WAY) == set(DeliveryReason)
    assert not set(map(str, Reason)) & set(map(str, DeliveryReason)), "one code, one meaning"
    for words in (*REASONS.values(), *ON_THE_WAY.values()):
        assert words[0].isupper() and words.endswith("."), words


def test_whatever_a_decision_answers_has_words():
    """Every clause and every condition of the decision table can be explained."""
    codes = {clause.because for clauses in TABLE.values() for clause in clauses}
    codes |= {
        condition.otherwise
        for clauses in TABLE.values()
        for clause in clauses
        for condition in clause.conditions
    }
    assert all(why(str(code)) == REASONS[code] for code in codes)


@pytest.mark.parametrize("telling", TELLINGS, ids=lambda telling: str(telling.done)[7:40])
def test_sentences_begin_with_who_did_it(telling):
    for words in (telling.done, telling.tried):
        assert words.startswith("${who} ") and words.endswith("."), words
        assert words.count("${") == 1
        # Whoever it was may be "You": what agrees with one person only has no place after it.
        assert not re.match(r"\$\{who\} (was|were|is|are|has|have)\b", words), words
    assert telling.done != telling.tried


def test_no_two_actions_are_told_alike():
    sentences = [str(words) for telling in TELLINGS for words in (telling.done, telling.tried)]
    assert len(sentences) == len(set(sentences))


def test_every_topic_has_words_and_actions():
    assert set(TOPICS) == set(Topic)
    found = [action for topic in Topic for action in topic_actions(topic)]
    assert sorted(found) == sorted(TOLD)
    assert all(topic_actions(topic) for topic in Topic)


def test_every_page_about_a_patient_is_named():
    about = {name for name, _path, _factory, traverse in ROUTES if traverse}
    assert set(PAGES) == about


def test_every_program_is_named():
    pattern = re.compile(r'"(process:[a-z-]+)"')
    written = {
        found
        for path in SOURCE.rglob("*.py")
        if path.name not in {"explanations.py", "words.py"}
        for found in pattern.findall(path.read_text("utf-8"))
    }
    assert written and written <= set(PROCESSES)


def test_every_outcome_has_words():
    assert set(OUTCOMES) == set(Outcome)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.ALLOWED, "Ana read one of your records."),
        (Outcome.DENIED, "Ana tried to read one of your records."),
        (Outcome.FAILED, "Ana tried to read one of your records."),
    ],
)
def test_what_did_not_succeed_is_a_try(outcome, expected):
    assert sentence_of(event(outcome=outcome), "Ana").interpolate() == expected


def test_a_name_is_no_template():
    told = sentence_of(event(), "${who} ${x} <b>").interpolate()
    assert told == "${who} ${x} <b> read one of your records."


def test_a_copy_of_the_log_is_told_as_such():
    looked = sentence_of(event(Action.ACCESS_LOG_VIEWED), "Ana").interpolate()
    took = sentence_of(event(Action.ACCESS_LOG_VIEWED, format="csv"), "Ana").interpolate()
    assert (looked, took) == ("Ana looked at this log.", "Ana took a copy of this log along.")


def test_what_is_not_known_is_said_to_be_so():
    assert why("new-code").interpolate() == "Noted with the code new-code."
    told = sentence_of(event(Action.SIGN_IN), "Ana").interpolate()
    assert told == "Ana did something that concerns you."
    assert page_of(event(route="nowhere")) is None and page_of(event()) is None
