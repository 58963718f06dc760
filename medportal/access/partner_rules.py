"""A patient's rules about partner institutions, carried to where transfers look at them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from medportal.access.rules import Rule, Whom
from medportal.audit.events import Action, Event
from medportal.delivery import blocks, outbox
from medportal.delivery.blocks import Block, BlockEffect, BlockScope
from medportal.delivery.outbox import Turned
from medportal.delivery.states import DeliveryReason

#: The reason of an event about a delivery that a rule turned.
REASONS = {
    Action.DELIVERY_WITHHELD: DeliveryReason.RULE_HERE,
    Action.DELIVERY_RELEASED: DeliveryReason.RULE_LIFTED,
}


@dataclass(frozen=True, slots=True)
class Moved:
    """The deliveries that a change of rules stopped, and those that it set free."""

    withheld: tuple[Turned, ...] = ()
    released: tuple[Turned, ...] = ()


def is_about_partner(rule: Rule, institution: str) -> bool:
    """Tell whether a rule names an institution other than this one."""
    return rule.whom is Whom.INSTITUTION and rule.whom_id != institution


def mirror(session: Session, patient_id: str, rule: Rule) -> None:
    """Write a rule about a partner for the processes that face partners."""
    blocks.put(
        session,
        Block(
            rule_id=rule.id,
            patient_id=patient_id,
            partner=rule.whom_id,
            effect=BlockEffect(rule.effect),
            what=BlockScope(rule.what),
            what_id=rule.what_id,
            since=rule.since,
            until=rule.until,
        ),
    )


def settle(session: Session, patient_id: str, now: datetime) -> Moved:
    """Withhold and set free a patient's deliveries as the rules now say."""
    return Moved(
        tuple(outbox.withhold_stopped(session, now, patient_id)),
        tuple(outbox.lift_freed(session, now, patient_id)),
    )


def open_deliveries(session: Session, patient_id: str, rule: Rule) -> int:
    """Count what has not arrived at the partner of a rule, and what the rule is about.

    What waits, and what another rule withholds.
    """
    return outbox.count_open(session, patient_id, rule.whom_id, BlockScope(rule.what), rule.what_id)


def turned_event(turned: Turned, action: Action, now: datetime, actor: str) -> Event:
    """Return the event of a delivery that a rule stopped or set free."""
    return Event.create(
        action,
        now=now,
        actor=actor,
        patient=turned.patient_id,
        object=turned.record_id,
        reasons=[REASONS[action]],
        details={"partner": turned.partner, "tid": turned.tid},
    )
