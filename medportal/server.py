"""The HTTPS server: granian, started by PasteDeploy (``pserve some.ini``).

This file alone knows granian, so that another server can take its place. Each institution
has a listener and a certificate of its own: granian takes one certificate a listener, and a
shared one would let HTTP/2 coalesce the two institutions.
"""

import gc
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_crl
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from pyramid.paster import get_app, get_appsettings, setup_logging

from medportal.core.errors import ConfigurationError
from medportal.keys import TenantKeys
from medportal.pki.errors import PkiError
from medportal.pki.files import PRIVATE, write_file
from medportal.pki.keystore import KeyStore
from medportal.pki.profiles import Group, Purpose
from medportal.settings import Settings, parse_settings
from medportal.web.compiled import kept
from medportal.web.edge import SETTING as EDGES
from medportal.web.gateway import Gateway
from medportal.web.limits import body_limit
from medportal.web.warm import compile_templates

log = structlog.get_logger()
#: Threads of a worker that run WSGI calls; argon2 and SQLite leave the interpreter lock.
BLOCKING_THREADS = 8
STOP_SECONDS = 15
#: How often it is looked whether a certificate was renewed.
WATCH_SECONDS = 2.0
KEY_PREFIX = "medportal-web-key-"
#: Where in the state directory compiled templates are kept; no institution can be named so.
COMPILED = ".compiled-templates"


#: The application that :func:`run` was given, for processes forked from it.
_ready: Any = None


@dataclass(frozen=True, slots=True)
class Listener:
    """One institution's address."""

    tenant_id: str
    host: str
    port: int


def parse_listeners(text: str) -> list[Listener]:
    """Return the listeners of a ``tenant = host:port`` list, one a line.

    Raises ``ConfigurationError`` for a line of another form.
    """
    listeners = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        tenant_id, _, address = (part.strip() for part in line.partition("="))
        host, _, port = address.rpartition(":")
        if not (tenant_id and host and port.isdigit() and 0 < int(port) < 65_536):
            raise ConfigurationError("ini: server:main: listen: write tenant = address:port")
        listeners.append(Listener(tenant_id, host, int(port)))
    if not listeners:
        raise ConfigurationError("ini: server:main: listen: name at least one listener")
    return listeners


def run(app: Any, global_conf: Mapping[str, str], **local_conf: str) -> None:
    """Serve until SIGTERM or SIGINT; PasteDeploy calls this.

    ``app`` is made ready here; processes that are forked from this one have it as it is, and
    where there is no fork each worker loads its own.
    """
    global _ready
    listeners = parse_listeners(local_conf.get("listen", ""))
    behind_edge = _behind_edge(local_conf.get("behind_edge", "false"))
    require_edges(app.registry.settings, behind_edge)
    _make_ready(app)
    _ready = app
    workers = _workers(local_conf.get("workers", "1"))
    children = [
        _process(serve_listener, (dict(global_conf), listener, workers, behind_edge))
        for listener in listeners
    ]
    stopping = _stop_on_signals(children)
    for child in children:
        child.start()
    multiprocessing.connection.wait([child.sentinel for child in children])
    # One listener that ends takes the others with it: half a portal is a fault to be seen.
    _terminate(children)
    sys.exit(0 if stopping.is_set() else 1)


def _make_ready(app: Any) -> None:
    """Compile every template, or take what an earlier start compiled."""
    with kept(app.registry["settings"].state / COMPILED):
        compile_templates(app.registry)


def _workers(text: str) -> int:
    if not (text.isdigit() and 0 < int(text) <= 64):
        raise ConfigurationError("ini: server:main: workers: a number from 1 to 64")
    return int(text)


def _behind_edge(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ConfigurationError("ini: server:main: behind_edge must be true or false")
    return text.lower() == "true"


def require_edges(settings: Mapping[str, Any], behind_edge: bool) -> None:
    """Refuse settings in which an edge is believed for its address alone, or not believed.

    1. Whoever is on the network can take an address. What an edge says of whom it speaks for
       counts in production only where the listener demands the edge's certificate.
    2. A portal that only edges reach and that believes none of them would take every one of
       their visitors to be where the edge is.

    Raises ``ConfigurationError``.
    """
    named = bool(settings.get(EDGES, "").split())
    production = str(settings.get("medportal.production", "true")).lower() == "true"
    if named and production and not behind_edge:
        raise ConfigurationError(
            f"ini: {EDGES}: say behind_edge = true in [server:main] too, so that edges show a "
            "certificate; an address alone is nothing to believe"
        )
    if behind_edge and not named:
        raise ConfigurationError(f"ini: {EDGES}: name the addresses of the edges in front")


def _process(target: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
    """Return a process that has not started.

    Forking keeps what is imported already, which halves the time of a start; nothing has
    opened a database or a key by now. Where there is no fork, each child imports anew.
    """
    if "fork" in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("fork").Process(target=target, args=arguments)
    return multiprocessing.get_context("spawn").Process(target=target, args=arguments)


def _stop_on_signals(children: list[BaseProcess]) -> threading.Event:
    """Stop the children at SIGTERM and SIGINT; return what is set from then on.

    At SIGHUP they load their certificates anew, and go on.
    """
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()
        for child in children:
            if child.pid is not None and child.is_alive():
                child.terminate()

    def reload(_signal: int, _frame: FrameType | None) -> None:
        for child in children:
            if child.pid is not None and child.is_alive():
                os.kill(child.pid, signal.SIGHUP)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
    return stopping


def _terminate(children: list[BaseProcess]) -> None:
    for child in children:
        if child.is_alive():
            child.terminate()
    for child in children:
        child.join(STOP_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()


def serve_listener(
    global_conf: Mapping[str, str], listener: Listener, workers: int, behind_edge: bool = False
) -> None:
    """Serve one institution's address until SIGTERM or SIGINT.

    ``behind_edge``: only to who shows a certificate of the edge's own authority, and under a
    certificate of that.
    """
    # The parent's handlers speak of children that are not this process's.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Until granian listens to it; what is to be loaded anew has not been loaded yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ini = global_conf["__file__"]
    setup_logging(ini, dict(global_conf))
    settings = parse_settings(get_appsettings(ini, options=_options(global_conf)))
    # granian cannot read encrypted keys (its TLS library gets no passphrase that it
    # understands), so the key lies opened on memory, private to this process, while it serves.
    _forget_keys_of_the_dead()
    prefix = f"{KEY_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=_memory()) as directory:
        tls = _edge_tls if behind_edge else _web_tls
        # Looked at before the key is read: what is renewed meanwhile is noticed afterwards.
        watch = _Watch(lambda: _key_state(settings, listener.tenant_id, behind_edge))
        options = tls(settings, listener.tenant_id, Path(directory))
        server = Granian(
            "medportal",
            address=listener.host,
            port=listener.port,
            # ASGI without lifespan events: the gateway collects bodies, see there.
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=131_072),
            workers=workers,
            websockets=False,
            **options,
            respawn_failed_workers=True,
            log_level=LogLevels.error,
        )
        loader: Callable[..., Any] = partial(
            load_application, ini, _options(global_conf), listener.tenant_id
        )
        server.on_reload(lambda: _load_anew(tls, settings, listener.tenant_id, Path(directory)))
        # Not earlier: until then the signal that the watch sends is listened to by nobody.
        server.on_startup(watch.start)
        server.on_shutdown(watch.stop)
        server.serve(target_loader=loader, wrap_loader=False)


class _Watch:
    """Asks the server of this process to reload, as SIGHUP does, whenever a key was renewed.

    granian replaces its workers one by one: the new ones take the new certificate, the old ones
    finish what they are answering.
    """

    def __init__(self, state: Callable[[], object]) -> None:
        self._state, self._stop = state, threading.Event()
        self._known = state()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look; not before the server listens to SIGHUP."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            try:
                found = self._state()
            except (PkiError, OSError) as error:
                # A key that is gone is no reason to stop serving with the one that is loaded.
                log.error("web key cannot be looked at", kind=type(error).__name__)
                continue
            if found != self._known:
                self._known = found
                os.kill(os.getpid(), signal.SIGHUP)


def _load_anew(
    tls: Callable[[Settings, str, Path], Any], settings: Settings, tenant_id: str, directory: Path
) -> None:
    """Write what new workers read. What does not open is no reason to stop serving."""
    try:
        tls(settings, tenant_id, directory)
    except (PkiError, ConfigurationError, OSError) as error:
        log.error("renewed web key cannot be loaded", kind=type(error).__name__)


def _key_state(settings: Settings, tenant_id: str, behind_edge: bool) -> object:
    keys = TenantKeys(settings.tenant(tenant_id), settings.home(tenant_id), ())
    store = KeyStore(keys.places.edge, {}) if behind_edge else keys.keystore
    return store.state(Purpose.WEB)


def load_application(ini: str, options: Mapping[str, str], tenant_id: str) -> Gateway:
    """Load the application behind its gateway; granian calls this in each worker."""
    os.umask(0o077)
    setup_logging(ini, dict(options))
    app = _ready
    if app is None:
        app = get_app(ini, "main", options=dict(options))
        _make_ready(app)
    # What is loaded by now stays as long as the process. To look through it for garbage takes the
    # collector up to a fifth of a second, in which nobody is answered: it does so once, here.
    gc.collect()
    gc.freeze()
    return Gateway(app, tenant_id, threads=BLOCKING_THREADS, most_bytes=body_limit(app.registry))


def _web_tls(settings: Settings, tenant_id: str, directory: Path) -> dict[str, Any]:
    """Write certificate and opened key of a tenant's web listener; return granian's options."""
    keys = _portal_keys(settings, tenant_id)
    pem = keys.keystore.write_unlocked(Purpose.WEB, directory / "web.pem")
    return {"ssl_cert": pem, "ssl_key": pem}


def _edge_tls(settings: Settings, tenant_id: str, directory: Path) -> dict[str, Any]:
    """Write what a listener behind an edge needs; return granian's options.

    Raises ``ConfigurationError`` where the edge's authority has not been made.
    """
    keys = _portal_keys(settings, tenant_id)
    store = KeyStore(keys.places.edge, keys.passphrases)
    try:
        pem = store.write_unlocked(Purpose.WEB, directory / "portal.pem")
        authority = store.ca.public_bytes(Encoding.PEM)
        revoked = load_der_x509_crl(store.crl_der).public_bytes(Encoding.PEM)
    except PkiError as error:
        raise ConfigurationError(f"the keys between edge and portal: {error}") from error
    write_file(directory / "edge-ca.crt", authority, PRIVATE)
    write_file(directory / "edge-ca.crl", revoked, PRIVATE)
    return {
        "ssl_cert": pem,
        "ssl_key": pem,
        "ssl_ca": directory / "edge-ca.crt",
        "ssl_crl": [directory / "edge-ca.crl"],
        "ssl_client_verify": True,
    }


def _portal_keys(settings: Settings, tenant_id: str) -> TenantKeys:
    tenant = settings.tenant(tenant_id)
    return TenantKeys(
        tenant, settings.home(tenant.id), (Group.PORTAL,), settings.secrets(tenant.id)
    )


def _forget_keys_of_the_dead() -> None:
    """Remove what servers of this user left that were ended before they could tidy up."""
    base = Path(_memory() or tempfile.gettempdir())
    for left in base.glob(f"{KEY_PREFIX}*-*"):
        pid = left.name.removeprefix(KEY_PREFIX).split("-")[0]
        is_own = left.stat().st_uid == os.getuid()
        if is_own and pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _memory() -> str | None:
    """Return a directory on memory where there is one; else the usual one for such files."""
    shared = Path("/dev/shm")  # noqa: S108  (a private directory is made in it)
    return str(shared) if shared.is_dir() and os.access(shared, os.W_OK) else None


def _options(global_conf: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in global_conf.items() if k not in {"__file__", "here"}}
