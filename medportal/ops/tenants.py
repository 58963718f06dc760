"""What ``medportal tenant check`` says besides: does what an institution's file names work here?"""

import ssl
from pathlib import Path

from medportal.pki.errors import PkiError
from medportal.pki.files import read_private
from medportal.tenancy.tenant import Mail, Tenant

NO_MAIL = "not set up: no mail is sent, and a code from the desk alone opens an account"


def mail_state(tenant: Tenant) -> str:
    """Return whether mail can be sent as far as this machine's files go; the server is not asked.

    Nothing of a file's content is repeated.
    """
    if tenant.mail is None:
        return NO_MAIL
    problems = [*_password_problems(tenant.mail), *_authority_problems(tenant.mail)]
    return "; ".join(problems) or "ok"


def mail_server(tenant: Tenant) -> str:
    """Return where mail goes and how TLS begins there; empty where none is sent.

    Who signs in at the server, and with what, is left out.
    """
    if tenant.mail is None:
        return ""
    return f"{tenant.mail.server} ({'TLS' if tenant.mail.implicit_tls else 'STARTTLS'})"


def _password_problems(mail: Mail) -> list[str]:
    if not mail.password_file:
        return []
    try:
        password = read_private(Path(mail.password_file))
    except PkiError as error:
        return [f"password_file: {error}"]
    return [] if password.strip() else [f"password_file: {mail.password_file} is empty"]


def _authority_problems(mail: Mail) -> list[str]:
    if not mail.ca_file:
        return []
    try:
        ssl.create_default_context(cafile=mail.ca_file)
    except ssl.SSLError:
        return [f"ca_file: {mail.ca_file} holds no certificate"]
    except OSError as error:
        return [f"ca_file: {mail.ca_file}: {error.strerror}"]
    return []
