"""Every host to every host on every interesting port: what opens, measured; as a table.

A listener stands on each port of each host that no service has, so that a connection that does
not come about was refused by a rule: with the rules off, every one of them comes about.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy.topology.network import move
from deploy.topology.plan import OUTSIDE, PATIENT, ROUTER, Plan
from deploy.topology.world import World

#: What services use, and what an intruder would like to: ssh, names, HTTP, mail, portmapper.
PORTS = (22, 53, 80, 443, 587, 3000, 4000, 5432, 8443, 27017)
#: The services by port, for people.
SERVICES = {3000: "portal", 4000: "exchange", 5432: "database", 8443: "web"}

_LISTEN = """
import asyncio, sys
async def serve(host, ports):
    for port in ports:
        try:
            await asyncio.start_server(lambda r, w: w.close(), host, port)
        except OSError as error:
            if error.errno != 98:
                raise
    print("listening", flush=True)
    await asyncio.Event().wait()
asyncio.run(serve(sys.argv[1], [int(p) for p in sys.argv[2:]]))
"""
_KNOCK = """
import asyncio, json, sys
async def knock(host, port, seconds):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), seconds)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
async def main():
    print(json.dumps(await asyncio.gather(*(knock(*each) for each in json.load(sys.stdin)))))
asyncio.run(main())
"""
PYTHON = "/opt/medportal/.venv/bin/python"


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """From one host (the patient's with the network it is in) to a port of another."""

    source: str
    target: str
    port: int


#: How long a connection may take, in seconds.
Patience = Callable[[Way], float]


def listen(world: World, plan: Plan) -> None:
    """Put a listener on every port that no service of a host has; they end with the world."""
    addresses = {host.name: host.address for host in plan.hosts.values()}
    addresses[ROUTER] = addresses[PATIENT] = "0.0.0.0"  # noqa: S104  (in a namespace)
    for host, address in addresses.items():
        command = [PYTHON, "-IS", "-c", _LISTEN, address, *map(str, PORTS)]
        world.start(command, host, "/run/listen")
        world.script(
            "for _ in $(seq 200); do\n"
            "    ! grep -q listening /run/listen || exit 0; sleep 0.1\n"
            "done; exit 1",
            host,
        )


def measure(
    world: World, plan: Plan, patience: Patience, networks: Iterable[str] | None = None
) -> dict[Way, bool]:
    """Return which connections come about, from every host and from the patient in each network.

    ``patience`` is how many seconds each may take. ``networks`` are those to which the patient
    goes, all unless told; its own ports are tried where it is outside.
    """
    found: dict[Way, bool] = {}
    for network in plan.networks if networks is None else networks:
        patient = move(world, plan, network)
        source = f"{PATIENT} at {network}"
        found |= _from(world, plan, PATIENT, source, {}, patience)
        if network == OUTSIDE:
            found |= _from_all(world, plan, {source: patient}, patience)
    return found


def _from_all(
    world: World, plan: Plan, more: Mapping[str, str], patience: Patience
) -> dict[Way, bool]:
    found: dict[Way, bool] = {}
    with ThreadPoolExecutor(len(plan.firewalled)) as pool:
        hosts = plan.firewalled
        for ways in pool.map(lambda host: _from(world, plan, host, host, more, patience), hosts):
            found |= ways
    return found


def ways(plan: Plan, network: str) -> list[Way]:
    """Return every way there is while the patient is in a network outside."""
    source = f"{PATIENT} at {network}"
    found = _targets(plan, PATIENT, source, {})
    each = [Way(source, name, port) for name in found for port in PORTS]
    for host in plan.firewalled:
        found = _targets(plan, host, host, {source: ""})
        each += [Way(host, name, port) for name in found for port in PORTS]
    return each


def _targets(plan: Plan, host: str, source: str, more: Mapping[str, str]) -> dict[str, str]:
    """Return the address of every other host, as a host reaches it."""
    targets = {h.name: h.address for h in plan.hosts.values() if h.name != host}
    targets |= more
    if host != ROUTER:
        here = plan.hosts[host].network if host in plan.hosts else source.rpartition(" ")[2]
        targets[ROUTER] = plan.networks[here].gateway
    return targets


def _from(
    world: World, plan: Plan, host: str, source: str, more: Mapping[str, str], patience: Patience
) -> dict[Way, bool]:
    targets = _targets(plan, host, source, more)
    tried = [
        (Way(source, name, port), address) for name, address in targets.items() for port in PORTS
    ]
    asked = json.dumps([[address, way.port, patience(way)] for way, address in tried])
    said = json.loads(world.run([PYTHON, "-IS", "-c", _KNOCK], host, text=asked))
    return {way: bool(opened) for (way, _address), opened in zip(tried, said, strict=True)}


def render(found: Mapping[Way, bool]) -> str:
    """Return a Markdown table: a row for each source, a column for each target."""
    sources = _in_order(way.source for way in found)
    targets = _in_order(way.target for way in found)
    lines = ["| from \\ to | " + " | ".join(targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for source in sources:
        cells = [_cell(found, source, target) for target in targets]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _cell(found: Mapping[Way, bool], source: str, target: str) -> str:
    ways = [way for way in found if (way.source, way.target) == (source, target)]
    if not ways:
        return ""
    return (
        ", ".join(f"{SERVICES.get(w.port, '')} {w.port}".strip() for w in ways if found[w]) or "-"
    )
