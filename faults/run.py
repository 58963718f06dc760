"""One run: a plan carried out while records are entered, then peace, then the verdict."""

import json
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import clocked, verdict, world
from faults import houses as institutions
from faults import plan as plans
from faults.cast import HOSPITAL, LABORATORY, Cast, Way, laboratories, ways
from faults.houses import EXCHANGE_PORT, House, Wanted
from faults.processes import Process, Watch
from faults.staff import Staff
from faults.wire import Door, Kind, Trap, Wire

PATIENTS = 12
#: How long a trap waits for its frame: a sender that found nobody comes back within half a minute,
#: and on a busy machine takes as long again.
_SPRING_SECONDS = 90.0
_ANOTHER_SECONDS = 5.0
_TELL_SECONDS = 10.0
#: Disk that one record takes at most, in both databases' files and their logs; and the rest.
_RECORD_BYTES, _BASE_MEBIBYTES = 120_000, 160


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked for.

    ``laboratory`` is what each of them stands on, ``senders`` how many each has. ``both_ways`` lets
    the hospital send too, ``clocks`` lets clocks go wrong. ``settle`` is how long, in seconds,
    healing may take.
    """

    seed: int
    records: int
    rounds: int
    laboratory: Wanted
    hospital: Wanted
    settle: float
    keep: Path | None = None
    senders: int = 1
    laboratories: int = 1
    both_ways: bool = False
    clocks: bool = False

    @property
    def ways(self) -> list[Way]:
        """Return who sends to whom."""
        return ways(self.laboratories, both=self.both_ways)

    @property
    def wanted(self) -> dict[str, Wanted]:
        """Return what each institution stands on."""
        wanted = dict.fromkeys(laboratories(self.laboratories), self.laboratory)
        return {**wanted, HOSPITAL: self.hospital}


@dataclass
class Run:
    """A run at work."""

    order: Order
    houses: dict[str, House]
    wire: Wire
    staff: Staff
    say: Callable[[str], None]
    #: What was done: kills by victim, hits inside an exchange by victim and place, the rest.
    killed: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    samples: int = 0
    netem: bool | None = None

    @property
    def processes(self) -> dict[str, Process]:
        """Return every process by name, servers first."""
        found = [p for house in self.houses.values() for p in house.processes.values()]
        found.sort(key=lambda p: not p.role.is_server)
        return {process.name: process for process in found}

    @property
    def services(self) -> list[Process]:
        """Return the processes of the product."""
        return [p for p in self.processes.values() if not p.role.is_server]

    @property
    def cast(self) -> Cast:
        """Return whom a plan can hit."""
        disks = [(name, disk) for name, house in self.houses.items() for disk in house.disks]
        players = [process.player for process in self.processes.values()]
        clocks = list(self.houses) if self.order.clocks else []
        return Cast(list(self.houses), self.order.ways, players, disks, clocks)

    def carry_out(self, steps: list[plans.Step]) -> None:
        """Do everything that is planned, with a share of the records for each step."""
        shares = [self.order.records * n // len(steps) for n in range(len(steps) + 1)]
        for number, step in enumerate(steps):
            self.say(f"{self.staff.versions:>5}  {step}")
            self._step(step, shares[number + 1] - shares[number])
            self._sample()

    def _step(self, step: plans.Step, share: int) -> None:
        if isinstance(step, plans.Strike):
            self._strike(step, share)
            return
        # Half of the share is on its way when it happens, half is entered while it lasts.
        self.staff.enter(share // 2)
        seconds, undo = self._happen(step)
        until = threading.Timer(seconds, undo)
        until.start()
        self.staff.enter(share - share // 2)
        until.join()

    def _happen(self, step: plans.Step) -> tuple[float, Callable[[], None]]:
        """Do what is planned; return how long it lasts, in seconds, and what undoes it."""
        match step:
            case plans.Kill(victim, down):
                self._kill(victim)
                return down, self.processes[victim].start
            case plans.Freeze(victim, seconds):
                self.done["freezes"] += 1
                self.processes[victim].signal(signal.SIGSTOP)
                return seconds, lambda: self.processes[victim].signal(signal.SIGCONT)
            case plans.CutCable(house, silently, seconds):
                self.done["cuts"] += 1
                world.cut(house, silently=silently)
                return seconds, world.mend
            case plans.Lose(percent, seconds):
                self.done["losses"] += 1
                world.lose(percent)
                return seconds, world.mend
            case plans.Slow(milliseconds, seconds):
                self.done["slow"] += 1
                return seconds, self._slow(milliseconds)
            case plans.Fill(house, disk, seconds):
                self.done["full disks"] += 1
                place = self.houses[house].disks[disk]
                world.fill(place)
                return seconds, lambda: world.free(place)
            case plans.WrongClock(house, ahead, seconds):
                self.done["wrong clocks"] += 1
                file = self.houses[house].clock
                if file is None:
                    raise ValueError("the clocks of this run cannot be set")
                clocked.write(file, ahead)
                return seconds, lambda: clocked.write(file, 0)
            case plans.PowerCut(down):
                self.done["power cuts"] += 1
                for victim in self.processes:
                    self._kill(victim)
                return down, self._start_all
            case plans.Restart():
                self.done["restarts"] += 1
                self.stop_services()
                return 0, self._start_all
            case plans.Strike():
                raise ValueError("a strike waits for its frame")

    def _kill(self, victim: str) -> None:
        self.killed[victim] += self.processes[victim].kill()

    def _start_all(self) -> None:
        for process in self.processes.values():
            process.start()

    def _strike(self, step: plans.Strike, share: int) -> None:
        # What was killed comes back by itself: the clerk may be waiting for that very database.
        again = threading.Timer(step.down, lambda: self.processes[step.victim].start())

        def act() -> None:
            if step.victim:
                self._kill(step.victim)
                again.start()

        trap = Trap(step.way, step.kind, step.nth, step.moment, act, step.late)
        self.wire.set(trap)
        if step.kind is Kind.HANDSHAKE:
            self.wire.cut(step.way)
        with self.staff.entering(share, besides=step.way.sender) as own:
            self._bait(trap, step.nth, own)
            self.wire.set(None)
            if trap.sprung.is_set():
                self.struck[f"{step.victim or 'cable'} {step.moment} {step.kind}"] += 1
            else:
                self.done["never struck"] += 1
        if trap.sprung.is_set() and step.victim:
            again.join()

    def _bait(self, trap: Trap, nth: int, share: int) -> None:
        """Enter records that go a trap's way until it springs, and what is left of a share.

        A share may be less than the ``nth`` frame that the trap waits for, and several that are
        sent at once are one frame: where nothing comes any more, another one is entered.
        """
        is_sprung, entered = False, 0
        began = time.monotonic()
        while not is_sprung and (lasts := time.monotonic() - began) < _SPRING_SECONDS:
            if entered < max(share, nth + lasts // _ANOTHER_SECONDS):
                self.staff.enter_on(trap.way)
                entered += 1
            is_sprung = trap.sprung.wait(0.01 if entered < share else 0.5)
        for _ in range(share - entered):
            self.staff.enter_on(trap.way)

    def _slow(self, milliseconds: int) -> Callable[[], None]:
        houses = list(self.houses)
        self.netem = world.delay(houses, milliseconds)
        if self.netem:
            return lambda: world.undelay(houses)
        # The relay lets every piece wait instead.
        self.wire.delay = milliseconds / 1000
        return lambda: setattr(self.wire, "delay", 0.0)

    def stop_services(self) -> None:
        """Stop the product's processes in good order, and expect that they do."""
        for process in self.services:
            process.ask_to_stop()
        for process in self.services:
            try:
                code = process.ended()
            except subprocess.TimeoutExpired:
                self.problems.append(f"{process.name} did not stop when it was asked")
                process.kill()
                continue
            # Who is asked before it has begun to listen to signals ends by the signal.
            if code and (process.has_heard or code != -signal.SIGTERM):
                self.problems.append(f"{process.name} ended with {code} when it was asked to stop")

    def _sample(self) -> None:
        for way in self.order.ways:
            found = verdict.receipts_without_record(self.houses, way)
            if found is not None:
                self.samples += 1
                self.problems += found

    def heal(self) -> None:
        """Mend everything and wait until all is well, as long as healing may take."""
        world.mend()
        self.wire.set(None)
        began = time.monotonic()
        self._start_all()
        entered, last = self.staff.entered, began
        while not verdict.is_settled(self.houses, entered):
            now = time.monotonic()
            if now - began > self.order.settle:
                self.problems += verdict.what_is_stuck(self.houses, entered)
                break
            if now - last > _TELL_SECONDS:
                self.say(f"       {verdict.what_is_stuck(self.houses, entered)}")
                last = now
            time.sleep(0.5)


def run(order: Order, say: Callable[[str], None]) -> dict[str, Any]:
    """Carry out a run in this world; return its figures, with every problem found."""
    clock = _Clock()
    mebibytes = _BASE_MEBIBYTES + order.records * _RECORD_BYTES // 2**20
    houses = institutions.build(
        order.wanted, order.ways, mebibytes, order.senders, with_clocks=order.clocks
    )
    staff = Staff(houses, order.ways, PATIENTS, order.seed)
    clock.stop("preparing")
    say(f"prepared in {clock.seconds['preparing']} s")
    with _wire(order) as wire:
        it = Run(order, houses, wire, staff, say)
        steps = plans.make(order.seed, order.rounds, it.cast)
        with Watch(list(it.processes.values())):
            it.heal()
            clock.stop("starting")
            it.carry_out(steps)
            clock.stop("faults")
            say("mended; waiting until all is well")
            it.heal()
            clock.stop("healing")
            it.stop_services()
        it.problems += verdict.check(houses, staff.entered, staff.patients)
        it.problems += _crashes(it)
    if order.keep:
        shutil.copytree(world.PLACE / "logs", order.keep, dirs_exist_ok=True)
    return _figures(it, len(steps), clock.seconds)


def _wire(order: Order) -> Wire:
    """Return what stands in every way of a run."""
    cables = {name: world.CABLES[name] for name in order.wanted}
    called = {way.receiver: cables[way.receiver] for way in order.ways}
    doors = [Door(name, each.door, (each.end, EXCHANGE_PORT)) for name, each in called.items()]
    return Wire(doors, {each.end: name for name, each in cables.items()})


class _Clock:
    """Says how long each part of a run took, in seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def stop(self, part: str) -> None:
        """Say that a part is over, and the next begins."""
        before, self._last = self._last, time.monotonic()
        self.seconds[part] = round(self._last - before, 1)


def _figures(it: Run, steps: int, seconds: dict[str, float]) -> dict[str, Any]:
    order = it.order
    return {
        "faults": ", ".join(map(str, order.ways)),
        "seed": order.seed,
        LABORATORY: f"{order.laboratory.database}, documents in {order.laboratory.documents}",
        HOSPITAL: f"{order.hospital.database}, documents in {order.hospital.documents}",
        "senders": order.senders,
        "records": it.staff.versions,
        "corrections": it.staff.corrections,
        "transfers": {str(way): len(versions) for way, versions in it.staff.entered.items()},
        "entered_again": it.staff.again,
        "steps": steps,
        "killed": dict(sorted(it.killed.items())),
        "struck": dict(sorted(it.struck.items())),
        "done": dict(sorted(it.done.items())),
        "connections": {str(way): number for way, number in it.wire.connections.items()},
        "frames": dict(it.wire.frames),
        "duplicates_answered": verdict.duplicates_answered(it.houses),
        "samples": it.samples,
        "ended_by_themselves": {p.name: p.own_ends for p in it.processes.values() if p.own_ends},
        "netem": {True: "used", False: "not in this kernel", None: "not asked"}[it.netem],
        "seconds": seconds,
        "problems": it.problems,
    }


def _crashes(it: Run) -> list[str]:
    """Return who ended by itself other than because its database was away when it began.

    The command line says so with status 2; anything else is a crash.
    """
    return [
        f"{process.name} ended by itself: {process.own_ends}"
        for process in it.services
        if any(code != 2 for code in process.own_ends)
    ]


def line(figures: dict[str, Any]) -> str:
    """Return the figures of a run as a line of JSON."""
    return json.dumps(figures, ensure_ascii=False)
