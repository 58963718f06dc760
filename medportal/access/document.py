"""The decision table in words, for a privacy officer who does not program (PURE).

``docs/access.md`` is what :func:`document` returns for the two institutions of the
demonstration; ``medportal tenant access`` prints it for one's own. Nothing is said here that is
not read from the table, the conditions, the rules' order and the catalogues: only the words
for permissions, ways and rules are this module's.
"""

from collections.abc import Iterable, Iterator, Sequence

from medportal.access.conditions import Clause, Condition, Duty
from medportal.access.decisions import TABLE
from medportal.access.rules import WHAT_ORDER, WHOM_ORDER, What, Whom
from medportal.core.categories import Category, is_sensitive
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission, Reach
from medportal.core.reasons import Reason
from medportal.identity.powers import guarded_roles
from medportal.tenancy.tenant import Tenant

PERMISSION_WORDS = {
    Permission.HOME_VIEW: "Open the portal",
    Permission.ACCOUNT_CHANGE: "Keep one's own account",
    Permission.PATIENTS_LIST: "Have a list of patients",
    Permission.PATIENTS_REGISTER: "Register patients",
    Permission.PATIENTS_FIND: "Find a patient by the exact number",
    Permission.TEAMS_MANAGE: "Keep the teams of wards",
    Permission.PATIENT_SEE: "Name and ward",
    Permission.PATIENT_BED: "Bed",
    Permission.PATIENT_TRANSPORT: "Transport note",
    Permission.PATIENT_ALERTS: "Diet and allergies",
    Permission.PATIENT_VITALS: "Latest vital signs, without a diagnosis",
    Permission.PATIENT_DEMOGRAPHICS: "Birth date, number, address",
    Permission.DEMOGRAPHICS_KEEP: "Change birth date, number, address",
    Permission.SUPPORT_KEEP: "Change transport note, diet and allergies",
    Permission.CARE_MANAGE: "Admit, assign staff and teams, discharge",
    Permission.RECORD_LIST: "List the records that one may read",
    Permission.RECORD_READ: "Read a record",
    Permission.RECORD_CREATE: "Enter a record",
    Permission.RECORD_AMEND: "Correct a record made here, add to it, or take it back",
    Permission.RECORD_EXPORT: "Take records along as a file",
    Permission.RESULT_ACKNOWLEDGE: "Note that a result was seen",
    Permission.HELD_DECIDE: "Decide about results that were held back",
    Permission.ERASURE_DECIDE: "Ask for the erasure of a patient's records",
    Permission.GLASS_BREAK: "Break the glass",
    Permission.RULES_MANAGE: "Make and end the patient's rules",
    Permission.ACCESS_LOG_VIEW: "See who looked, and why",
    Permission.COMPLAINT_MAKE: 'Say "this looks wrong to me"',
    Permission.DELIVERY_FOLLOW: "Follow the delivery of a record",
    Permission.DELIVERIES_VIEW: "See the queue of deliveries",
    Permission.AUDIT_VIEW: "Search the audit log and its proofs",
    Permission.AUDIT_EXPORT: "Export the audit log",
    Permission.REVIEWS_DECIDE: "Review emergency access",
    Permission.COMPLAINTS_ANSWER: "Answer what patients say looks wrong",
    Permission.PEOPLE_MANAGE: "Register staff, keep accounts and roles",
    Permission.APPROVALS_DECIDE: "Approve as the second person",
    Permission.SETTINGS_MANAGE: "Change the institution's settings",
    Permission.PARTNERS_MANAGE: "See to partners: hold what goes to one, try again",
}
#: What a way in is called.
WAY_WORDS = {
    Reason.SIGNED_IN: "Everybody",
    Reason.ROLE_ANY: "By the role alone",
    Reason.ASSIGNED_CARE: "Looks after the patient",
    Reason.PATIENT_ALLOWS: "The patient allows it",
    Reason.BROKEN_GLASS: "Broke the glass",
    Reason.OWN_RECORD: "Is the patient",
    Reason.REPRESENTATIVE: "Stands for the patient",
    Reason.AUTHOR: "Wrote it",
}
OBLIGATION_WORDS = {
    Obligation.CONFIRM_FIRST: "proves first, again, who they are",
    Obligation.TELL_PATIENT: "the patient is told by mail",
    Obligation.REVIEW: "somebody else reviews it",
}
WHOM_WORDS = {
    Whom.PERSON: "a person",
    Whom.DEPARTMENT: "a department (a ward, by its team)",
    Whom.ROLE: "a role",
    Whom.INSTITUTION: "an institution",
}
WHAT_WORDS = {
    What.RECORD: "one record",
    What.CATEGORY: "a category",
    What.EVERYTHING: "everything",
}
REACH_WORDS = {
    Reach.ANY: "everybody",
    Reach.ASSIGNED: "assigned patients",
    Reach.OWN: "oneself, or for whom one stands",
}

_BEGINNING = """\
# Who may see what, and why

Generated from the decision table in `medportal/access/decisions.py` by `medportal tenant access`;
a test fails when it is out of date. Do not edit it.

Every answer of the portal comes from this table. What no way in gives is refused, and a refusal
looks the same whether a thing is hidden or missing. Every look and every refusal is written to
the audit log with the code of its reason, and patients read it in their access log as a sentence.
"""
_WAYS = """\
## What may be done, and by which ways in

One way in is enough. A way is open if **all** of its conditions hold.
"""
_RULES = """\
## The patient's rules

A rule blocks or allows. It names {whoms}; it is about {whats}; it counts from its beginning until
its end, the end itself outside.

Of the rules that are about somebody and something, the most specific decides: first by whom it
names ({whom_order}), then by what it is about ({what_order}). Between two as specific, the one
that blocks wins.

- One more rule that blocks never gives anything; one more that allows never takes anything.
- A rule that allows gives reading only, and no more than the asker's role reaches for assigned
  patients. One that names a role counts for what that role may do, also for people who have
  another role besides.
- Whoever is allowed a part of the record finds the way to it (name, ward, the list with that
  part), also past a rule that blocks everything else.
- What belongs to no category (bed, notes, diet, allergies) follows rules about everything alone.
- The desk, which reaches everybody, keeps name, place and personal details whatever the rules
  are, or nobody could be admitted. Authors keep reading what they wrote.
- Rules that name a department, a role or the institution do not concern who stands for the
  patient; one that names them in person does.
- A rule that names a partner institution stops what would be sent there.
"""
_CATEGORIES = """\
## Categories

Ordinary: {ordinary}. Sensitive, and closed to begin with: {sensitive}, and whatever is not
mapped. To allow somebody "everything" does not open a sensitive category: the rule has to name
it, or the record.
"""
_REASONS = """\
## Codes of refusals

| code | what is wanting |
|---|---|
"""
_ROLES = """\
## Roles of {name}

{reaches}. A dash: the role does not have it. Rules, assignments and the ways in above decide
about the rest. Roles marked \\* take a second person to give.
"""


def document(tenants: Sequence[Tenant]) -> str:
    """Return the whole document in Markdown, with the roles of these institutions."""
    parts = [
        _BEGINNING,
        _WAYS,
        *_permissions(),
        _rules(),
        _categories(),
        _REASONS + "".join(_refusals()),
        *(_roles(tenant) for tenant in tenants),
    ]
    return "\n".join(parts)


def _permissions() -> Iterator[str]:
    """Give a section for each group of permissions that have the same ways in."""
    groups: dict[tuple[Clause, ...], list[Permission]] = {}
    for permission, clauses in TABLE.items():
        groups.setdefault(clauses, []).append(permission)
    for clauses, permissions in groups.items():
        titles = "; ".join(PERMISSION_WORDS[p] for p in permissions)
        codes = ", ".join(f"`{p}`" for p in permissions)
        yield f"### {titles}\n\n{codes}\n\n{''.join(_ways(clauses))}"


def _ways(clauses: tuple[Clause, ...]) -> Iterator[str]:
    """Give a line for each way in, after one for what all of them take."""
    shared = _shared(clauses) if len(clauses) > 1 else ()
    if shared:
        yield f"- In any case: {_and(shared)}.\n"
    for clause in clauses:
        own = [condition for condition in clause.conditions if condition not in shared]
        duties = "".join(f" Then: {_duty(duty)}." for duty in clause.duties)
        way = f"**{WAY_WORDS[clause.because]}** (`{clause.because}`)"
        yield f"- {way}: {_and(own)}.{duties}\n"


def _shared(clauses: tuple[Clause, ...]) -> tuple[Condition, ...]:
    first, *others = clauses
    return tuple(c for c in first.conditions if all(c in other.conditions for other in others))


def _and(conditions: Iterable[Condition]) -> str:
    return "; ".join(condition.name for condition in conditions)


def _duty(duty: Duty) -> str:
    words = OBLIGATION_WORDS[duty.obligation]
    return words if duty.when == "always" else f"{words}, where {duty.when}"


def _rules() -> str:
    whoms = [WHOM_WORDS[whom] for whom in reversed(WHOM_ORDER)]
    whats = [WHAT_WORDS[what] for what in reversed(WHAT_ORDER)]
    return _RULES.format(
        whoms=_or(whoms),
        whats=_or(whats),
        whom_order=" before ".join(whoms),
        what_order=" before ".join(whats),
    )


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _categories() -> str:
    sensitive = [category for category in Category if is_sensitive(category)]
    ordinary = [category for category in Category if not is_sensitive(category)]
    return _CATEGORIES.format(ordinary=", ".join(ordinary), sensitive=", ".join(sensitive))


def _refusals() -> Iterator[str]:
    """Give a line for each code, with all the conditions that it stands for."""
    wanting: dict[Reason, dict[Condition, None]] = {}
    for condition in _conditions(TABLE.values()):
        wanting.setdefault(condition.otherwise, {})[condition] = None
    for reason in sorted(wanting):
        yield f"| `{reason}` | {'<br>'.join(c.name for c in wanting[reason])} |\n"


def _conditions(table: Iterable[tuple[Clause, ...]]) -> Iterator[Condition]:
    return (c for clauses in table for clause in clauses for c in clause.conditions)


def _roles(tenant: Tenant) -> str:
    roles = list(tenant.roles.values())
    guarded = guarded_roles(tenant)
    names = " | ".join(r.names["en"] + ("\\*" if r.id in guarded else "") for r in roles)
    reaches = "; ".join(f"{reach}: over {words}" for reach, words in REACH_WORDS.items())
    lines = [
        _ROLES.format(name=tenant.names["en"], reaches=reaches[0].upper() + reaches[1:]),
        f"| | {names} |",
        "|---|" + "---|" * len(roles),
    ]
    for permission, words in PERMISSION_WORDS.items():
        held = [str(role.grants.get(permission, "-")) for role in roles]
        if set(held) != {"-"}:
            lines.append(f"| {words} | {' | '.join(held)} |")
    return "\n".join(lines) + "\n"
