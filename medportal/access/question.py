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
    counting,
    opening_of,
    sensitive_is_open,
    strongest,
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
    """What matters about one record; ``exists`` is false for an id that names none.

    ``origin`` is the institution that made it.
    """

    id: str
    exists: bool
    author_id: str | None = None
    category: str = ""
    origin: str = ""


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

    ``rules`` are those that count: in force, and naming the asker.
    """

    rules: tuple[Rule, ...]
    thing: Thing | None

    @cached_property
    def whole(self) -> Rule | None:
        """Return the rule that decides about what belongs to no category."""
        return strongest(self.rules, None)

    @cached_property
    def way(self) -> Rule | None:
        """Return the rule that decides about the way to the patient and the list of records."""
        return opening_of(self.rules) or self.whole

    @cached_property
    def record(self) -> Rule | None:
        """Return the rule that decides about the record; about any part, where none is asked."""
        return self.way if self.thing is None else strongest(self.rules, self.thing)

    @cached_property
    def opens_sensitive(self) -> bool:
        """Tell whether the rules open the record if its category is sensitive."""
        return self.thing is not None and sensitive_is_open(self.rules, self.thing)


@dataclass(frozen=True)
class Relation:
    """How the asker stands to the patient now; what follows from it is worked out once.

    It is the same for every record of the patient: a list of them shares one.
    """

    identity: Identity | None
    facts: AccessFacts
    now: datetime

    @cached_property
    def exists(self) -> bool:
        """Tell whether the patient exists, if one is asked about."""
        return self.facts.patient is None or self.facts.patient.exists

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
    def is_fresh(self) -> bool:
        """Tell whether the asker proved of late who they are."""
        proved = self.identity.confirmed_at if self.identity else None
        return proved is not None and self.now - proved < self.facts.fresh_for

    @cached_property
    def is_remote(self) -> bool:
        """Tell whether somebody asks who is not on site."""
        return self.identity is not None and not self.identity.on_site

    @cached_property
    def owes_a_proof(self) -> bool:
        """Tell whether somebody of staff elsewhere proves who they are before some records open."""
        return self.is_remote and not (self.is_fresh or self.is_self or self.represents)

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
    def named(self) -> frozenset[str]:
        """Return the ids of records that the patient's rules name, and categories that they do."""
        patient = self.facts.patient
        return frozenset(rule.what_id for rule in patient.rules) if patient else frozenset()

    @cached_property
    def rules_by_name(self) -> tuple[Rule, ...]:
        """Return those rules that count and name the asker in person."""
        return tuple(r for r in self.rules(frozenset()) if r.whom is Whom.PERSON)

    def rules(self, lifted: frozenset[str]) -> tuple[Rule, ...]:
        """Return the patient's rules that count, where these roles could be lifted by one."""
        if lifted not in self._rules:
            patient = self.facts.patient
            found = counting(patient.rules, self._subject(lifted), self.now) if patient else ()
            self._rules[lifted] = found
        return self._rules[lifted]

    @cached_property
    def _rules(self) -> dict[frozenset[str], tuple[Rule, ...]]:
        """Keep the rules that count by the roles that could be lifted."""
        return {}

    def _subject(self, lifted: frozenset[str]) -> Subject:
        who = self.identity
        return Subject(
            who.person_id if who else "",
            who.tenant_id if who else "",
            # Also a role that is withheld, or to prove less would be a way past a block.
            who.all_roles if who else frozenset(),
            self.facts.departments,
            lifted,
        )


@dataclass(frozen=True)
class Situation:
    """How the asker stands to the patient, and the record that they ask about, if any."""

    relation: Relation
    record: RecordFacts | None = None

    @cached_property
    def exists(self) -> bool:
        """Tell whether what is asked about exists."""
        return self.relation.exists and (self.record is None or self.record.exists)

    @cached_property
    def is_sensitive(self) -> bool:
        """Tell whether a record is asked about whose category starts closed."""
        return self.record is not None and is_sensitive(self.record.category)

    @cached_property
    def wrote_it(self) -> bool:
        """Tell whether the asker wrote the record."""
        who = self.relation.identity
        return (
            self.record is not None and who is not None and self.record.author_id == who.person_id
        )

    @cached_property
    def was_made_here(self) -> bool:
        """Tell whether the record was made at the institution where it is asked for."""
        who = self.relation.identity
        return self.record is not None and who is not None and self.record.origin == who.tenant_id

    @cached_property
    def ruling_by_name(self) -> Ruling:
        """Return what those rules say that name the asker in person."""
        return Ruling(self.relation.rules_by_name, self._thing)

    def ruling(self, permission: Permission) -> Ruling:
        """Return what the patient's rules say about the asker's use of a permission."""
        lifted = self.relation.facts.by_role.get(permission, frozenset())
        if lifted not in self._rulings:
            self._rulings[lifted] = Ruling(self.relation.rules(lifted), self._thing)
        return self._rulings[lifted]

    @cached_property
    def _rulings(self) -> dict[frozenset[str], Ruling]:
        """Keep each ruling by the roles that rules could lift."""
        return {}

    @cached_property
    def _thing(self) -> Thing | None:
        return None if self.record is None else Thing(self.record.id, self.record.category)


#: Whoever holds a permission so holds it over other people.
OVER_OTHERS = frozenset({Reach.ANY, Reach.ASSIGNED})


@dataclass(frozen=True, slots=True)
class Question:
    """May the asker use ``permission`` in this situation?"""

    at: Situation
    permission: Permission

    def holds(self, reach: Reach) -> bool:
        """Tell whether a role of the asker gives the permission over so many."""
        return reach in self.at.relation.facts.held.get(self.permission, frozenset())

    @property
    def ruling(self) -> Ruling:
        """Return what the patient's rules say about it."""
        return self.at.ruling(self.permission)


def is_that(rule: Rule | None, effect: Effect) -> bool:
    """Tell whether a rule decides, and to this effect."""
    return rule is not None and rule.effect is effect
