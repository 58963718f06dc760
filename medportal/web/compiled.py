"""Compiled templates on disk, so that a start need not compile them all anew.

What is kept is code: whoever can write it makes the portal run what they like. So it is kept
only in a directory that nobody but this process's own user may enter, see :func:`kept`, and
everything is opened through that directory as it was when it was looked at. A process that is
taken over could already do whatever its user may; nothing of it is run by another user.

The name of a file is Chameleon's digest of the template, of three of its options and of every
installed package, so that what an update brings is never shown by what an older version compiled.
Whoever changes an option that the digest leaves out deletes the directory. The digest in front of
the code finds what a crash left half written; it is compiled again. Files appear by renaming:
processes that start side by side read a whole one or none. See
``docs/adr/0038-compiled-templates-on-disk.md``.
"""

import marshal
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType
from typing import Any

import structlog
from chameleon import config
from chameleon.template import BaseTemplate

log = structlog.get_logger()
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
#: Any right of somebody who is not the owner.
OTHERS = stat.S_IRWXG | stat.S_IRWXO
#: Of what is being written; Chameleon's own names begin with a letter or a digit.
UNFINISHED = "."
#: What a writer left for so long was left by one that ended meanwhile.
UNFINISHED_SECONDS = 3_600
_DIGEST = sha256().digest_size
#: Code means something to one version of the interpreter, and to one level of ``-O``, only.
_INTERPRETER = b"%s %s %d" % (
    MAGIC_NUMBER,
    str(sys.implementation.cache_tag).encode("ascii"),
    sys.flags.optimize,
)


class UnsafeDirectory(Exception):
    """A directory that somebody else can write, or that is none."""


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Take from ``path`` what is compiled within the block, and keep there what was not.

    What nothing asked for is removed at the end. The directory is made where it is missing. One
    that cannot be used, being another user's, open to others or on a disk that is read only, is
    left alone, with a warning. So it is where the operator named one to Chameleon itself
    (``CHAMELEON_CACHE``), which is then used.
    """
    if config.CACHE_DIRECTORY:
        yield
        return
    try:
        directory = open_private(path)
    except (OSError, UnsafeDirectory) as error:
        log.warning("templates are compiled anew at every start", kind=type(error).__name__)
        yield
        return
    # Chameleon asks the class for it; there is no way to hand it to each template.
    template: Any = BaseTemplate
    before, loader = template.loader, KeptLoader(directory)
    template.loader = loader
    try:
        yield
        loader.forget_unused()
    finally:
        template.loader = before
        os.close(directory)


def open_private(path: Path) -> int:
    """Return a descriptor of a directory of this user's alone, made where it is missing.

    Raises ``UnsafeDirectory`` for one that is another user's or that others may enter, and
    ``OSError`` for what is no directory (a link to one is none) or cannot be made.
    """
    with suppress(FileExistsError):  # Looked at below, whoever made it.
        path.mkdir(mode=DIRECTORY_MODE)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    found = os.fstat(directory)
    if found.st_uid != os.geteuid() or found.st_mode & OTHERS:
        os.close(directory)
        raise UnsafeDirectory(f"{path} is not this user's alone")
    return directory


class KeptLoader:
    """What Chameleon asks for the code of a template, and gives the program of a new one to."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        #: The same part of several pages is read, and compiled, once.
        self._codes: dict[str, CodeType] = {}

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what the code of a name defines, or ``None`` where it is to be compiled."""
        code = self._codes.get(name) or self._read(name)
        return None if code is None else self._run(name, code)

    def build(self, source: str, name: str) -> dict[str, Any]:
        """Compile a program, keep its code under a name, and return what it defines."""
        code = compile(source, name, "exec", dont_inherit=True)
        self._write(name, code)
        return self._run(name, code)

    def forget_unused(self) -> None:
        """Remove what nobody asked for: of older versions, or of a writer that was ended."""
        try:
            for name in os.listdir(self._directory):
                if name in self._codes or (name.startswith(UNFINISHED) and not self._is_left(name)):
                    continue
                self._remove(name)
        except OSError as error:
            log.warning("compiled templates cannot be looked through", kind=type(error).__name__)

    def _run(self, name: str, code: CodeType) -> dict[str, Any]:
        self._codes[name] = code
        defined: dict[str, Any] = {}
        exec(code, defined)  # noqa: S102  (a template's program, as Chameleon itself runs it)
        return defined

    def _read(self, name: str) -> CodeType | None:
        try:
            data = self._own_bytes(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("compiled template cannot be read", kind=type(error).__name__)
            return None
        payload = data[_DIGEST:]
        if data[:_DIGEST] != _digest(name, payload):
            return None
        code = marshal.loads(payload)  # noqa: S302  (written by this user, and whole)
        return code if isinstance(code, CodeType) else None

    def _own_bytes(self, name: str) -> bytes:
        """Return what a file of this user holds; of another's, nothing. Raises ``OSError``."""
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._directory)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
                return b""
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)

    def _write(self, name: str, code: CodeType) -> None:
        """Keep code. A full disk is no reason not to start: it is compiled again next time."""
        payload = marshal.dumps(code)
        unfinished = f"{UNFINISHED}{name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(unfinished, flags, FILE_MODE, dir_fd=self._directory)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_digest(name, payload) + payload)
            os.replace(unfinished, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError as error:
            log.warning("compiled template cannot be kept", kind=type(error).__name__)
            self._remove(unfinished)

    def _is_left(self, name: str) -> bool:
        try:
            written = os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mtime
        except FileNotFoundError:
            return False  # Finished meanwhile.
        return time.time() - written > UNFINISHED_SECONDS

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._directory)
        except FileNotFoundError:
            pass  # Another process removed it, or it was never made.
        except OSError as error:
            log.warning("compiled template cannot be removed", kind=type(error).__name__)


def _digest(name: str, payload: bytes) -> bytes:
    """Return what stands in front of code: of it, its name and the interpreter it is for."""
    return sha256(b"%s\n%s\n%s" % (_INTERPRETER, name.encode("utf-8"), payload)).digest()
