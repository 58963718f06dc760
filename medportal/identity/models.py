"""People and how they get in."""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from medportal.db import Base, Id, UTCDateTime


class AccountStatus(StrEnum):
    """Whether an account may be used."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    #: A backup brought the account back as it was then: closed until somebody has looked at it.
    HELD = "held"


class Sex(StrEnum):
    """Administrative gender, FHIR R4 value set."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNKNOWN = "unknown"


class Person(Base):
    """A human being known to this institution, in whatever roles."""

    __tablename__ = "person"
    __table_args__ = (Index("ix_person_name", "name", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    birth_date: Mapped[date]
    sex: Mapped[str] = mapped_column(String(10))
    email: Mapped[str] = mapped_column(String(254))
    phone: Mapped[str] = mapped_column(String(40))
    city: Mapped[str] = mapped_column(String(100))
    language: Mapped[str] = mapped_column(String(5))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class PersonIdentifier(Base):
    """A number by which a person is known, under its scheme; unique in the institution."""

    __tablename__ = "person_identifier"
    __table_args__ = (UniqueConstraint("scheme", "value"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), index=True)
    scheme: Mapped[str] = mapped_column(String(32))
    value: Mapped[str] = mapped_column(String(64))


class Account(Base):
    """Credentials of a person; at most one account a person."""

    __tablename__ = "account"

    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), primary_key=True)
    password_hash: Mapped[str | None] = mapped_column(String(255))
    password_changed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class Activation(Base):
    """What somebody needs to choose a password, for the first time or anew.

    Two halves that take different ways: a code handed over at the desk, and a link that is
    mailed. Hashes only; each half is one-use and replaced on its own.
    """

    __tablename__ = "activation"

    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), primary_key=True)
    code_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    code_expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    code_by: Mapped[str | None] = mapped_column(Id)
    link_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    link_expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class RoleGrant(Base):
    """A role that a person holds here."""

    __tablename__ = "role_grant"
    # Lists of staff shall not grow with the patients, who hold roles too.
    __table_args__ = (Index("ix_role_grant_role", "role", "person_id"),)

    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    granted_at: Mapped[datetime] = mapped_column(UTCDateTime)
    granted_by: Mapped[str | None] = mapped_column(Id)


class SessionStage(StrEnum):
    """How far a sign-in has come."""

    OPEN = "open"
    #: The password was right; the second factor is still asked for. Nobody is signed in yet.
    SECOND_FACTOR = "second-factor"


class LoginSession(Base):
    """A signed-in browser. ``token_hash`` is SHA-256 of what the cookie holds.

    ``methods`` are codes separated by spaces, see :class:`medportal.core.identity.Method`.
    ``confirmed_at`` is when the person last proved who they are.
    """

    __tablename__ = "login_session"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UTCDateTime)
    stage: Mapped[str] = mapped_column(String(16))
    methods: Mapped[str] = mapped_column(String(60))
    confirmed_at: Mapped[datetime] = mapped_column(UTCDateTime)
    user_agent: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(45))
    on_site: Mapped[bool]


class Totp(Base):
    """An authenticator app. Secrets are sealed by the vault.

    ``sealed_secret`` counts since ``confirmed_at``. ``pending_secret`` is being set up, since
    ``pending_at``; a right code puts it in the other's place, so that whoever moves to a new
    phone is never without an app.
    """

    __tablename__ = "totp"

    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), primary_key=True)
    sealed_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    confirmed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    #: The time step of the last code that was accepted: no step is accepted twice.
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    #: Codes that were wrong since the last one that was right.
    wrong_in_a_row: Mapped[int] = mapped_column(default=0)
    pending_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    pending_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class RecoveryCode(Base):
    """A one-use code for when the second factor is not at hand; its salt and hash."""

    __tablename__ = "recovery_code"

    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Passkey(Base):
    """A WebAuthn credential of a person."""

    __tablename__ = "passkey"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary(1023), unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger)
    transports: Mapped[str] = mapped_column(String(100))
    backed_up: Mapped[bool]
    name: Mapped[str] = mapped_column(String(60))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class PasskeyChallenge(Base):
    """A challenge that was sent to a browser and may be answered once."""

    __tablename__ = "passkey_challenge"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    challenge: Mapped[bytes] = mapped_column(LargeBinary(64))
    purpose: Mapped[str] = mapped_column(String(16))
    #: Whose answer is expected; nobody's in particular when somebody signs in.
    person_id: Mapped[str | None] = mapped_column(Id)
    #: Hash of the network it was sent to, or of the session: each has only so many.
    sent_to: Mapped[bytes] = mapped_column(LargeBinary(32), index=True)
    expires_at: Mapped[datetime] = mapped_column(UTCDateTime, index=True)


class EmailChange(Base):
    """A change of an email address that has not happened yet, or was called off.

    The holder's own waits for the link that was mailed to the new address; the staff's,
    approved by a second person, waits for ``effective_at``, so that the holder can object.
    """

    __tablename__ = "email_change"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"), index=True)
    new_email: Mapped[str] = mapped_column(String(254))
    requested_by: Mapped[str] = mapped_column(Id)
    requested_at: Mapped[datetime] = mapped_column(UTCDateTime)
    link_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32), unique=True)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    approved_by: Mapped[str | None] = mapped_column(Id)
    effective_at: Mapped[datetime | None] = mapped_column(UTCDateTime, index=True)
    done_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    cancelled_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class AccountNote(Base):
    """What staff wrote about why they changed an account.

    The audit event carries the reason's code and a salted commitment to this text.
    """

    __tablename__ = "account_note"
    __table_args__ = (Index("ix_account_note_person_time", "person_id", "at", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    person_id: Mapped[str] = mapped_column(Id, ForeignKey("person.id"))
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    by: Mapped[str | None] = mapped_column(Id)
    action: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str] = mapped_column(String(40))
    note: Mapped[str] = mapped_column(String(500))
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))


class SignInThrottle(Base):
    """Failures of late for one account or one address, under a hash that names neither."""

    __tablename__ = "sign_in_throttle"

    key: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    failures: Mapped[int]
    last_failure_at: Mapped[datetime] = mapped_column(UTCDateTime)
