"""What a decision is asked, and what it looks at (PURE).

Facts are loaded once (:mod:`medportal.access.facts`), as they are stored: whether something is
in force is decided here, at the moment of the question, so that an end is an end at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from medportal.access.rules import (
    Effect,
    Rule,
    Subject,
    Thing,
    Whom,
    names,
    opening,
    opens_sensitive,
    winning,
)
from medportal.core.categories import is_sensitive
from medportal.core.identity import Identity
from medportal.core.permissions import Permission, Reach


@dataclass(frozen=True, slots=True)
class Term:
    """From when until when something counts; ``until`` is outside, and open if ``None``."""

    since: datetime
    until: datetime | None = None

    def in_force(self, now: datetime) -> bool:
        """Tell whether it has begun and has not ended."""
        return self.since <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class AssignmentFacts:
    """One care assignment of the asker, to themselves or through a ward team.

    ``opens_sensitive``: the ward clerk said that it goes for sensitive categories too.
    ``team`` is the ward whose team was assigned, empty for an assignment to the person.
    """

    treating: bool
    since: datetime
    until: datetime | None
    id: str = ""
    opens_sensitive: bool = False
    team: str = ""

    def in_force(self, now: datetime) -> bool:
        """Tell whether it has begun and has not ended; the end itself is outside."""
        return self.since <= now and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class GlassFacts:
    """One breaking of the glass by the asker, ``sensitive`` after the second, explicit step."""

    id: str
    since: datetime
    until: datetime
    sensitive: bool = False

    def in_force(self, now: datetime) -> bool:
        """Tell whether its time runs."""
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """What matters about one patient to the person who asks.

    ``represents`` are the times for which the asker stands for the patient.
    """

    id: str
    exists: bool
    is_self: bool = False
    assignments: tuple[AssignmentFacts, ...] = ()
    represents: tuple[Term, ...] = ()
    rules: tuple[Rule, ...] = ()
    glass: tuple[GlassFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What matters about one record; ``exists`` is false for an id that names none."""

    id: str
    exists: bool
    author_id: str | None = None
    category: str = ""


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """Everything that a decision looks at, besides who asks and when.

    ``held`` is what the asker's roles give, ``by_role`` which of them give it over others, and
    ``treats`` whether one of them may be a treating doctor's. ``departments`` are the wards
    whose teams the asker is in now; ``fresh_for`` is how long a proof of identity counts as
    fresh.
    """

    held: Mapping[Permission, frozenset[Reach]]
    patient: PatientFacts | None = None
    record: RecordFacts | None = None
    departments: frozenset[str] = frozenset()
    fresh_for: timedelta = timedelta(minutes=10)
    by_role: Mapping[Permission, frozenset[str]] = field(default_factory=dict)
    treats: bool = False


@dataclass(frozen=True)
class Ruling:
    """What the patient's rules say about one asker; each answer is worked out when it is asked.

    ``rules`` are those in force that name the asker.
    """

    rules: tuple[Rule, ...]
    subject: Subject
    thing: Thing | None
    now: datetime

    @cached_property
    def whole(self) -> Rule | None:
        """Return the rule that decides about what belongs to no category."""
        return winning(self.rules, self.subject, None, self.now)

    @cached_property
    def way(self) -> Rule | None:
        """Return the rule that decides about the way to the patient and the list of records."""
        return opening(self.rules, self.subject, self.now) or self.whole

    @cached_property
    def record(self) -> Rule | None:
        """Return the rule that decides about the record; about any part, where none is asked."""
        if self.thing is None:
            return self.way
        return winning(self.rules, self.subject, self.thing, self.now)

    @cached_property
    def opens_sensitive(self) -> bool:
        """Tell whether the rules open the record if its category is sensitive."""
        return self.thing is not None and opens_sensitive(
            self.rules, self.subject, self.thing, self.now
        )


@dataclass(frozen=True)
class Situation:
    """Who asks, in the light of which facts, and when; what follows from it is worked out once."""

    identity: Identity | None
    facts: AccessFacts
    now: datetime

    @cached_property
    def exists(self) -> bool:
        """Tell whether what is asked about exists."""
        patient, record = self.facts.patient, self.facts.record
        return (patient is None or patient.exists) and (record is None or record.exists)

    @cached_property
    def is_self(self) -> bool:
        """Tell whether the patient is the asker."""
        return self.facts.patient is not None and self.facts.patient.is_self

    @cached_property
    def represents(self) -> bool:
        """Tell whether the asker stands for the patient now."""
        patient = self.facts.patient
        return patient is not None and any(term.in_force(self.now) for term in patient.represents)

    @cached_property
    def is_sensitive(self) -> bool:
        """Tell whether a record is asked about whose category starts closed."""
        record = self.facts.record
        return record is not None and is_sensitive(record.category)

    @cached_property
    def wrote_it(self) -> bool:
        """Tell whether the asker wrote the record."""
        record = self.facts.record
        return (
            record is not None
            and self.identity is not None
            and record.author_id == self.identity.person_id
        )

    @cached_property
    def is_fresh(self) -> bool:
        """Tell whether the asker proved of late who they are."""
        proved = self.identity.confirmed_at if self.identity else None
        return proved is not None and self.now - proved < self.facts.fresh_for

    @cached_property
    def is_remote(self) -> bool:
        """Tell whether somebody asks who is not on site."""
        return self.identity is not None and not self.identity.on_site

    @cached_property
    def assignments(self) -> tuple[AssignmentFacts, ...]:
        """Return the asker's care assignments in force, the personal ones first."""
        patient = self.facts.patient
        found = [a for a in patient.assignments if a.in_force(self.now)] if patient else []
        return tuple(sorted(found, key=lambda a: (bool(a.team), not a.treating, a.since, a.id)))

    @cached_property
    def assignment_opens_sensitive(self) -> bool:
        """Tell whether an assignment goes for sensitive categories.

        A ward's team treats nobody, and neither does who is no doctor any more.
        """
        return any(
            a.opens_sensitive or (a.treating and not a.team and self.facts.treats)
            for a in self.assignments
        )

    @cached_property
    def glass(self) -> GlassFacts | None:
        """Return the glass broken by the asker, if its time runs; the wider one first.

        It lasts no longer than the role in which it was broken.
        """
        patient = self.facts.patient
        may = self.facts.held.get(Permission.GLASS_BREAK, frozenset()) & OVER_OTHERS
        found = [g for g in patient.glass if g.in_force(self.now)] if patient and may else []
        return max(found, key=lambda g: (g.sensitive, g.until, g.id), default=None)

    @cached_property
    def ruling_by_name(self) -> Ruling:
        """Return what those rules say that name the asker in person."""
        patient = self.facts.patient
        rules = patient.rules if patient else ()
        return self._weigh(tuple(r for r in rules if r.whom is Whom.PERSON), frozenset())

    def ruling(self, permission: Permission) -> Ruling:
        """Return what the patient's rules say about the asker's use of a permission."""
        lifted = self.facts.by_role.get(permission, frozenset())
        if lifted not in self._rulings:
            patient = self.facts.patient
            self._rulings[lifted] = self._weigh(patient.rules if patient else (), lifted)
        return self._rulings[lifted]

    @cached_property
    def _rulings(self) -> dict[frozenset[str], Ruling]:
        """Keep each ruling by the roles that rules could lift."""
        return {}

    def _weigh(self, rules: tuple[Rule, ...], lifted: frozenset[str]) -> Ruling:
        who, record = self.identity, self.facts.record
        subject = Subject(
            who.person_id if who else "",
            who.tenant_id if who else "",
            who.roles if who else frozenset(),
            self.facts.departments,
            lifted,
        )
        counting = tuple(r for r in rules if r.in_force(self.now) and names(r, subject))
        thing = None if record is None else Thing(record.id, record.category)
        return Ruling(counting, subject, thing, self.now)


#: Whoever holds a permission so holds it over other people.
OVER_OTHERS = frozenset({Reach.ANY, Reach.ASSIGNED})


@dataclass(frozen=True, slots=True)
class Question:
    """May the asker use ``permission`` in this situation?"""

    at: Situation
    permission: Permission

    def holds(self, reach: Reach) -> bool:
        """Tell whether a role of the asker gives the permission over so many."""
        return reach in self.at.facts.held.get(self.permission, frozenset())

    @property
    def ruling(self) -> Ruling:
        """Return what the patient's rules say about it."""
        return self.at.ruling(self.permission)


def is_that(rule: Rule | None, effect: Effect) -> bool:
    """Tell whether a rule decides, and to this effect."""
    return rule is not None and rule.effect is effect
