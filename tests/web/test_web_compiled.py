"""Compiled templates on disk: taken when they are this user's and whole, never otherwise."""

import errno
import hashlib
import multiprocessing
import os
import resource
import stat
from pathlib import Path
from types import SimpleNamespace

import chameleon.template
import pytest
from chameleon import PageTemplateFile, config
from chameleon.loader import MemoryLoader
from chameleon.template import BaseTemplate
from structlog.testing import capture_logs

from medportal import server
from medportal.web.compiled import UNFINISHED_SECONDS, UnsafeDirectory, kept, open_private

PAGE = "<p>${name}: <tal:each repeat='n numbers'><b>${n}</b></tal:each></p>"
VALUES = {"name": "Ana & Rui", "numbers": [1, 2]}
WRITTEN = "<p>Ana &amp; Rui: <b>1</b><b>2</b></p>"


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Count what is compiled, and forget the directory that the tests share."""
    monkeypatch.setattr(config, "CACHE_DIRECTORY", None)
    monkeypatch.setattr(BaseTemplate, "loader", MemoryLoader())
    found: list[str] = []
    compile_one = BaseTemplate._compile
    monkeypatch.setattr(
        BaseTemplate,
        "_compile",
        lambda self, *given: (found.append(self.filename), compile_one(self, *given))[1],
    )
    return found


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.pt"
    path.write_text(PAGE)
    return path


@pytest.fixture
def place(tmp_path):
    return tmp_path / "compiled"


def shown(page: Path, place: Path) -> str:
    """Return what a new start shows of a page."""
    with kept(place):
        template = PageTemplateFile(str(page))
        template.cook_check()
    return template(**VALUES)


def the_file(place: Path) -> Path:
    (found,) = place.iterdir()
    return found


def test_a_page_is_compiled_once_for_all_starts(page, place, compiled):
    assert [shown(page, place) for _ in range(3)] == [WRITTEN] * 3
    assert compiled == [str(page)]


def test_what_another_user_could_read_is_nothing(page, place):
    before = os.umask(0)
    try:
        shown(page, place)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(the_file(place).stat().st_mode) == 0o600


def test_the_loader_is_the_former_one_afterwards(page, place):
    before = BaseTemplate.loader
    with pytest.raises(ZeroDivisionError), kept(place):
        assert BaseTemplate.loader is not before
        raise ZeroDivisionError
    assert BaseTemplate.loader is before


def test_a_page_that_changed_is_compiled_anew_and_the_old_is_removed(page, place, compiled):
    shown(page, place)
    old = the_file(place)
    page.write_text(PAGE.replace("<p", "<div").replace("</p", "</div"))
    assert shown(page, place) == WRITTEN.replace("p>", "div>")
    assert len(compiled) == 2
    assert the_file(place) != old


def test_another_version_of_any_package_compiles_anew(page, place, compiled, monkeypatch):
    shown(page, place)
    monkeypatch.setattr(chameleon.template, "_pkg_digest", hashlib.sha1(b"updated"))
    assert shown(page, place) == WRITTEN
    assert len(compiled) == 2


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 100, -1])
def test_what_a_crash_left_half_written_is_compiled_again(page, place, compiled, length):
    shown(page, place)
    whole = the_file(place).read_bytes()
    the_file(place).write_bytes(whole[:length])
    assert [shown(page, place) for _ in range(2)] == [WRITTEN] * 2
    assert len(compiled) == 2
    assert the_file(place).stat().st_size == len(whole)


def test_a_byte_that_the_disk_turned_is_found(page, place, compiled):
    shown(page, place)
    whole = the_file(place).read_bytes()
    for at in range(0, len(whole), 97):
        turned = bytearray(whole)
        turned[at] ^= 0x10
        the_file(place).write_bytes(turned)
        assert shown(page, place) == WRITTEN
    assert len(compiled) == 1 + len(range(0, len(whole), 97))


def test_code_under_another_name_is_not_run(page, place, compiled):
    other = page.with_name("other.pt")
    other.write_text("<p>other</p>")
    shown(page, place)
    name = the_file(place).name
    shown(other, place)
    (place / name).write_bytes(the_file(place).read_bytes())
    assert shown(page, place) == WRITTEN
    assert len(compiled) == 3


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o702, 0o720, 0o770, 0o755, 0o777])
def test_a_directory_that_others_may_enter_is_left_alone(page, place, compiled, mode):
    shown(page, place)
    before = the_file(place).stat()
    place.chmod(mode)
    with capture_logs() as logs:
        assert shown(page, place) == WRITTEN
    assert len(compiled) == 2
    assert the_file(place).stat() == before
    assert [entry["kind"] for entry in logs] == ["UnsafeDirectory"]


def test_a_directory_of_another_user_is_left_alone(page, place, compiled, want_present):
    want_present(os.geteuid() == 0, "only root can give a directory away")
    shown(page, place)
    os.chown(place, 12_345, -1)
    assert shown(page, place) == WRITTEN
    assert len(compiled) == 2


def test_a_file_of_another_user_is_compiled_again(page, place, compiled, want_present):
    want_present(os.geteuid() == 0, "only root can give a file away")
    shown(page, place)
    os.chown(the_file(place), 12_345, -1)
    assert shown(page, place) == WRITTEN
    assert len(compiled) == 2
    assert the_file(place).stat().st_uid == os.geteuid()


def test_links_are_not_followed(page, place, tmp_path, compiled):
    elsewhere = tmp_path / "elsewhere"
    shown(page, elsewhere)
    place.symlink_to(elsewhere)
    assert shown(page, place) == WRITTEN
    place.unlink()
    place.mkdir(mode=0o700)
    (place / the_file(elsewhere).name).symlink_to(the_file(elsewhere))
    with capture_logs() as logs:
        assert shown(page, place) == WRITTEN
    assert len(compiled) == 3
    assert [entry["kind"] for entry in logs] == ["OSError"]
    assert not the_file(place).is_symlink()


def test_a_directory_in_the_place_of_a_file_is_a_reason_to_compile_and_not_to_stop(
    page, place, compiled
):
    shown(page, place)
    name = the_file(place)
    name.unlink()
    name.mkdir()
    with capture_logs() as logs:
        assert shown(page, place) == WRITTEN
    assert len(compiled) == 2
    assert [entry["kind"] for entry in logs] == ["IsADirectoryError"]


def test_no_directory_is_a_reason_to_compile_and_not_to_stop(page, tmp_path, compiled):
    missing, file = tmp_path / "missing" / "place", tmp_path / "file"
    file.write_text("")
    for place in (missing, file):
        assert shown(page, place) == WRITTEN
    assert len(compiled) == 2
    assert not missing.parent.exists()


def test_a_full_disk_is_a_reason_to_compile_and_not_to_stop(page, place, compiled):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    place.mkdir(mode=0o700)
    with capture_logs() as logs:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
        try:
            assert shown(page, place) == WRITTEN
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry["kind"] for entry in logs] == ["OSError"]
    assert list(place.iterdir()) == []
    assert shown(page, place) == WRITTEN
    assert len(compiled) == 2


def test_what_a_killed_writer_left_is_removed_after_a_while(page, place):
    shown(page, place)
    fresh, left = place / ".page.py.00", place / ".page.py.01"
    for unfinished in (fresh, left):
        unfinished.write_bytes(b"half")
    long_ago = left.stat().st_mtime - UNFINISHED_SECONDS - 60
    os.utime(left, (long_ago, long_ago))
    shown(page, place)
    assert fresh.exists()
    assert not left.exists()


def test_what_an_operator_named_to_chameleon_is_used(page, place, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CACHE_DIRECTORY", str(tmp_path))
    shown(page, place)
    assert not place.exists()


def test_the_server_keeps_them_in_the_state_directory(page, tmp_path, compiled, monkeypatch):
    state = tmp_path / "state"
    state.mkdir()
    app = SimpleNamespace(registry={"settings": SimpleNamespace(state=state)})
    # All of them are compiled by tests/functional/test_templates.py; it takes long.
    one = lambda registry: PageTemplateFile(str(page)).cook_check()  # noqa: E731
    monkeypatch.setattr(server, "compile_templates", one)
    for _start in range(2):
        server._make_ready(app)
    assert len(compiled) == 1
    assert the_file(state / ".compiled-templates").name.startswith("page_")


def test_opening_says_why_not(place):
    place.mkdir()
    place.chmod(0o750)  # Whatever the umask.
    with pytest.raises(UnsafeDirectory, match="not this user's alone"):
        open_private(place)
    place.rmdir()
    place.symlink_to(place.parent)
    with pytest.raises(OSError, match="compiled") as refused:
        open_private(place)
    assert refused.value.errno in {errno.ELOOP, errno.ENOTDIR}


def _show(page: Path, place: Path, start, told) -> None:
    start.wait(60)
    told.put([shown(page, place) for _ in range(5)])


def test_processes_that_start_side_by_side_show_the_same(page, place):
    fork = multiprocessing.get_context("fork")
    start, told = fork.Event(), fork.Queue()
    processes = [fork.Process(target=_show, args=(page, place, start, told)) for _ in range(6)]
    for process in processes:
        process.start()
    start.set()
    results = [told.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert results == [[WRITTEN] * 5] * 6
    assert not the_file(place).name.startswith(".")
