"""TLS 1.3 between two institutions, over memory buffers under asyncio.

pyOpenSSL, because the standard library's ``ssl`` has neither ``tls-exporter`` channel binding
(RFC 9266) nor the hybrid group. There is no resumption, no ticket and no 0-RTT, and the CA list
of partners is not sent, so nobody learns from a handshake who the partners are.

OpenSSL proves that the peer holds the key of its certificate. Whose certificate it is,
:func:`admit` decides, before a byte of the peer is read, under the CA of the one partner it names:
there is no pool of authorities in which one partner's CA could speak for another.
"""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from medportal.pki.errors import PkiError
from medportal.pki.keystore import TlsCredentials
from medportal.pki.verify import institution_of
from medportal.transfer.errors import ChannelError, Code, Untrusted
from medportal.transfer.ports import Channel, Peer

GROUP = "X25519MLKEM768"
SUITES = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_CHUNK = 1 << 18
"""How many bytes go to and from the socket at once: what was said together is heard together."""

_RECORD = 1 << 14
"""Greatest length in bytes of what TLS gives at once (RFC 8446, section 5.1)."""


PeerOf = Callable[[str], Peer | None]


def make_context(credentials: TlsCredentials) -> SSL.Context:
    """Return a context that presents ``credentials`` and demands a certificate of the peer."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(SUITES)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(credentials.certificate)
    for link in credentials.chain_der[1:]:
        context.add_extra_chain_cert(x509.load_der_x509_certificate(link))
    context.use_privatekey(credentials.private_key)
    context.check_privatekey()
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _leave_to_admit)
    return context


def _leave_to_admit(
    connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int
) -> bool:
    """Let the handshake finish: :func:`admit` verifies the chain before anything is read."""
    return True


def admit(
    connection: SSL.Connection, own: x509.Certificate, peer_of: PeerOf, now: datetime
) -> Channel:
    """Return the channel of a finished handshake, or raise ``ChannelError`` or ``Untrusted``.

    1. It is TLS 1.3.
    2. The key exchange was the hybrid post-quantum group.
    3. The peer's certificate names exactly one institution.
    4. That institution is a partner, not revoked here.
    5. The certificate verifies under that partner's own CA, for the purpose channel. (Revocation by
       that CA is checked in the handshake of CRX/1, which carries its list.)
    """
    if connection.get_protocol_version_name() != "TLSv1.3":  # 1
        raise ChannelError(Code.TLS, "version")
    if connection.get_group_name() != GROUP:  # 2
        raise ChannelError(Code.GROUP)
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise ChannelError(Code.TLS, "no certificate")
    institution = _institution(certificate)  # 3
    peer = peer_of(institution)
    if peer is None:  # 4
        raise Untrusted(Code.UNKNOWN_PARTNER)
    leaf = certificate.public_bytes(Encoding.DER)
    chain = (leaf, *_links(connection, leaf))
    peer.channel(chain, None, now)  # 5
    return Channel(
        binding=connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""),
        own_leaf=hashlib.sha256(own.public_bytes(Encoding.DER)).digest(),
        peer_leaf=hashlib.sha256(leaf).digest(),
        peer=institution,
        peer_chain=chain,
    )


def _links(connection: SSL.Connection, leaf: bytes) -> list[bytes]:
    """Return what the peer sent after its leaf: nothing, or the link to a former authority."""
    try:
        sent = connection.get_peer_cert_chain(as_cryptography=True) or []
    except ValueError as error:
        raise Untrusted(Code.CERTIFICATE, "bad-chain") from error
    return [der for each in sent if (der := each.public_bytes(Encoding.DER)) != leaf]


def _institution(certificate: x509.Certificate) -> str:
    try:
        return institution_of(certificate)
    except PkiError as error:
        raise Untrusted(Code.CERTIFICATE, error.code) from error


class TlsStream:
    """One TLS connection over an asyncio stream pair. One task reads, one task writes."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        credentials: TlsCredentials,
        *,
        server: bool,
    ) -> None:
        """Prepare the side that accepted (``server``) or the one that connected."""
        self._reader, self._writer = reader, writer
        self._own = credentials.certificate
        self._tls = SSL.Connection(make_context(credentials), None)
        (self._tls.set_accept_state if server else self._tls.set_connect_state)()

    async def handshake(self, peer_of: PeerOf, now: datetime) -> Channel:
        """Shake hands and check the peer. The caller sets the deadline.

        Raises ``ChannelError`` and ``Untrusted``.
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except SSL.WantReadError:
                await self._flush()
                await self._fill()
            except SSL.Error as error:
                await self._flush()
                raise ChannelError(Code.TLS, "handshake") from error
        await self._flush()
        return admit(self._tls, self._own, peer_of, now)

    async def receive(self) -> bytes:
        """Return the next bytes; empty once the peer has closed in good order.

        Raises ``ChannelError``; its code is ``TRUNCATED`` if the connection was cut without TLS
        saying so.
        """
        while True:
            try:
                return self._tls.recv(_RECORD)
            except SSL.WantReadError:
                await self._flush()
                await self._fill()
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise ChannelError(Code.TLS, "record") from error

    async def send(self, data: bytes) -> None:
        """Encrypt and send; returns when the socket's buffer has room again.

        Raises ``ChannelError``.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.send(view[:_CHUNK]) :]
            except SSL.Error as error:
                raise ChannelError(Code.TLS, "send") from error
            await self._flush()

    async def close(self) -> None:
        """Say goodbye in TLS as far as the peer still listens, and let go of the socket."""
        try:
            self._tls.shutdown()
            await self._flush()
        except (SSL.Error, ChannelError):
            # The peer is gone already, or the handshake never ended: nothing left to say.
            self._writer.transport.abort()
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            # It broke while closing: closed is what it was meant to be.
            self._writer.transport.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()

    async def _flush(self) -> None:
        while True:
            try:
                self._writer.write(self._tls.bio_read(_CHUNK))
            except SSL.WantReadError:
                break
        try:
            await self._writer.drain()
        except OSError as error:
            raise ChannelError(Code.TLS, "socket") from error

    async def _fill(self) -> None:
        try:
            data = await self._reader.read(_CHUNK)
        except OSError as error:
            raise ChannelError(Code.TLS, "socket") from error
        if not data:
            raise ChannelError(Code.TRUNCATED)
        self._tls.bio_write(data)
