"""docs/deployment.md, followed: each of its blocks is run where it says, in its order.

A block that begins with ``sh HOST ...`` is run by root on these hosts, on all of them at once; one
that begins with ``sh everywhere`` between the hosts (only ``carry`` is at home there). One that
begins with ``sh later ...`` is for another day, and run when asked for. Others are for reading. The
first block that fails ends the walk.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.topology.plan import ROOT
from deploy.topology.world import World

DOCUMENT = ROOT / "docs" / "deployment.md"
BETWEEN = "everywhere"
LATER = "later"
_BLOCK = re.compile(r"^```sh ([a-z ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
#: The stand-ins for systemctl and scp; the checkout that is tried, not one that was installed.
_BEFORE = """
export PATH=/opt/medportal/deploy/topology/bin:$PATH PYTHONPATH=/opt/medportal PYTHONWARNINGS=ignore
cd /root
umask 022
"""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the document: under which heading, on which hosts, what, on another day."""

    heading: str
    hosts: tuple[str, ...]
    text: str
    is_later: bool = False


def blocks(document: Path = DOCUMENT) -> Iterator[Block]:
    """Return the document's blocks in order."""
    text = document.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        headings = _HEADING.findall(text[: found.start()])
        hosts = found[1].split()
        is_later = hosts[0] == LATER
        yield Block(headings[-1], tuple(hosts[is_later:]), found[2], is_later)


def walk(world: World, say: Callable[[str], None], *, later: bool = False) -> None:
    """Follow the document, or what it says for ``later``.

    Raises ``WorldError`` for the first block that fails.
    """
    said = ""
    for block in blocks():
        if block.is_later != later:
            continue
        if block.heading != said:
            said = block.heading
            say(said)
        _run(world, block)


def _run(world: World, block: Block) -> None:
    if block.hosts == (BETWEEN,):
        world.script(_BEFORE.replace("/opt/medportal", "/mnt/app") + block.text)
        return
    with ThreadPoolExecutor(len(block.hosts)) as pool:
        done = [pool.submit(world.script, _BEFORE + block.text, host) for host in block.hosts]
        for each in done:
            each.result()
