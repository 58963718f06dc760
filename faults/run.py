"""One run: a plan carried out while records are entered, then peace, then the verdict."""

import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import houses as institutions
from faults import plan as plans
from faults import verdict, world
from faults.clerk import Clerk
from faults.houses import EXCHANGE_PORT, HOSPITAL, HOUSES, LABORATORY, House, Wanted
from faults.processes import Process, Watch, wait_until
from faults.wire import Kind, Trap, Wire

PATIENTS = 12
#: How long a trap waits for its frame: a sender that found nobody comes back within half a minute.
_SPRING_SECONDS = 45.0
#: Disk that one record takes at most, in both databases' files and their logs; and the rest.
_RECORD_BYTES, _BASE_MEBIBYTES = 120_000, 160


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked for. ``settle`` is how long, in seconds, healing may take."""

    seed: int
    records: int
    rounds: int
    laboratory: Wanted
    hospital: Wanted
    settle: float
    keep: Path | None = None


@dataclass
class Run:
    """A run at work."""

    order: Order
    houses: dict[str, House]
    wire: Wire
    clerk: Clerk
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    samples: int = 0
    netem: bool | None = None

    @property
    def processes(self) -> dict[str, Process]:
        """Return every process by name, servers first."""
        found = [p for name in HOUSES for p in self.houses[name].processes.values()]
        found.sort(key=lambda p: not p.name.startswith(("database", "documents")))
        return {process.name: process for process in found}

    @property
    def services(self) -> list[Process]:
        """Return the processes of the product."""
        servers = ("database", "documents")
        return [p for p in self.processes.values() if not p.name.startswith(servers)]

    def carry_out(self, steps: list[plans.Step]) -> None:
        """Do everything that is planned, with a share of the records for each step."""
        shares = [self.order.records * n // len(steps) for n in range(len(steps) + 1)]
        for number, step in enumerate(steps):
            self.say(f"{len(self.clerk.entered):>5}  {step}")
            self._step(step, shares[number + 1] - shares[number])
            self._sample()

    def _step(self, step: plans.Step, share: int) -> None:
        match step:
            case plans.Strike():
                self._strike(step, share)
            case plans.Fill(house, disk, seconds):
                self.clerk.enter(share)
                self._fill(self.houses[house].disks[disk], seconds)
            case _:
                # Half of the share is on its way when it happens, half is entered while it lasts.
                self.clerk.enter(share // 2)
                self._happen(step, share - share // 2)

    def _happen(self, step: plans.Step, share: int) -> None:
        match step:
            case plans.Kill(victim, down):
                self.done["kills"] += self._kill(victim)
                self._enter_and_wait(share if self._is_up(victim) else 0, down)
                self.processes[victim].start()
                self.clerk.enter(0 if self._is_up(victim) else share)
            case plans.Freeze(victim, seconds):
                self.processes[victim].signal(signal.SIGSTOP)
                self._enter_and_wait(share, seconds)
                self.processes[victim].signal(signal.SIGCONT)
                self.done["freezes"] += 1
            case plans.CutCable(house, silently, seconds):
                world.cut(house, silently=silently)
                self._enter_and_wait(share, seconds)
                world.mend()
                self.done["cuts"] += 1
            case plans.Lose(percent, seconds):
                world.lose(percent)
                self._enter_and_wait(share, seconds)
                world.mend()
                self.done["losses"] += 1
            case plans.Slow(milliseconds, seconds):
                self._slow(milliseconds, seconds, share)
            case plans.PowerCut(down):
                for process in self.processes.values():
                    self.done["kills"] += process.kill()
                time.sleep(down)
                self._start_all()
                self.done["power cuts"] += 1
                self.clerk.enter(share)
            case plans.Restart():
                self.stop_services()
                self.clerk.enter(share)
                self._start_all()
                self.done["restarts"] += 1

    def _is_up(self, victim: str) -> bool:
        """Tell whether the laboratory can file while this one is down."""
        return victim != f"database-{LABORATORY}"

    def _enter_and_wait(self, share: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.clerk.enter(share)
        time.sleep(max(0.0, until - time.monotonic()))

    def _kill(self, victim: str) -> bool:
        was = self.processes[victim].kill()
        self.done[f"killed {victim}"] += was
        return was

    def _start_all(self) -> None:
        for process in self.processes.values():
            process.start()

    def _strike(self, step: plans.Strike, share: int) -> None:
        def act() -> None:
            if step.victim:
                self.done["kills inside"] += self._kill(step.victim)

        trap = Trap(step.kind, step.nth, step.moment, act)
        self.wire.set(trap)
        if step.kind is Kind.HANDSHAKE:
            self.wire.cut()
        # Records to spring it on: a share may be less than the frames that the trap waits for.
        is_sprung, entered = False, 0
        until = time.monotonic() + _SPRING_SECONDS
        while not is_sprung and time.monotonic() < until:
            if entered < max(share, step.nth) and self._room:
                self.clerk.enter(1)
                entered += 1
            is_sprung = trap.sprung.wait(0.01 if entered < share else 0.5)
        self.wire.set(None)
        where = f"{step.victim or 'cable'} {step.moment} {step.kind}"
        self.done["struck" if is_sprung else "not struck"] += 1
        if is_sprung:
            self.done[f"struck {where}"] += 1
        time.sleep(step.down)
        if step.victim:
            self.processes[step.victim].start()
        self.clerk.enter(max(0, share - entered))

    @property
    def _room(self) -> bool:
        """Whether the laboratory's database takes records: the clerk would wait for it."""
        house = self.houses[LABORATORY]
        process = house.processes.get(f"database-{LABORATORY}")
        return process is None or process.is_wanted

    def _slow(self, milliseconds: int, seconds: float, share: int) -> None:
        self.netem = world.delay(milliseconds)
        if not self.netem:
            self.wire.delay = milliseconds / 1000
        self._enter_and_wait(share, seconds)
        self.wire.delay = 0.0
        world.undelay()
        self.done["slow"] += 1

    def _fill(self, disk: Path, seconds: float) -> None:
        world.fill(disk)
        self._enter_and_wait(0, seconds)
        world.free(disk)
        self.done["full disks"] += 1

    def stop_services(self) -> None:
        """Stop the product's processes in good order, and expect that they do."""
        for process in self.services:
            try:
                code = process.stop()
            except subprocess.TimeoutExpired:
                self.problems.append(f"{process.name} did not stop when it was asked")
                process.kill()
                continue
            if code:
                self.problems.append(f"{process.name} ended with {code} when it was asked to stop")

    def _sample(self) -> None:
        found = verdict.receipts_without_record(self.houses)
        if found is None:
            return
        self.samples += 1
        self.problems += found

    def heal(self) -> float:
        """Mend everything and wait until all is well; return how long that took, in seconds."""
        world.mend()
        self.wire.set(None)
        began = time.monotonic()
        self._start_all()
        entered = self.clerk.entered
        is_well = wait_until(
            lambda: verdict.is_settled(self.houses, entered), self.order.settle, every=0.5
        )
        if not is_well:
            self.problems += verdict.what_is_stuck(self.houses, entered)
        return time.monotonic() - began


def run(order: Order, say: Callable[[str], None]) -> dict[str, Any]:
    """Carry out a run in this world; return its figures, with every problem found."""
    began = time.monotonic()
    mebibytes = _BASE_MEBIBYTES + order.records * _RECORD_BYTES // 2**20
    wanted = {LABORATORY: order.laboratory, HOSPITAL: order.hospital}
    houses = institutions.build(wanted, mebibytes)
    clerk = Clerk(houses[LABORATORY], random.Random(order.seed))
    clerk.register(houses[HOSPITAL], PATIENTS)
    prepared = time.monotonic() - began
    say(f"prepared in {prepared:.1f} s")
    near = (world.CABLES[LABORATORY].middle, EXCHANGE_PORT)
    far = (world.CABLES[HOSPITAL].end, EXCHANGE_PORT)
    with Wire(near, far) as wire:
        it = Run(order, houses, wire, clerk, say)
        disks = [(name, disk) for name in HOUSES for disk in houses[name].disks]
        steps = plans.make(order.seed, order.rounds, list(it.processes), disks)
        with Watch(list(it.processes.values())):
            it.heal()
            begun = time.monotonic()
            it.carry_out(steps)
            faulty = time.monotonic() - begun
            say("healed; waiting until all is well")
            settled = it.heal()
            it.stop_services()
        it.problems += verdict.check(houses, clerk)
        it.problems += _crashes(it)
    if order.keep:
        shutil.copytree(world.PLACE / "logs", order.keep, dirs_exist_ok=True)
    return {
        "faults": "sender to receiver",
        "seed": order.seed,
        LABORATORY: f"{order.laboratory.database}, documents in {order.laboratory.documents}",
        HOSPITAL: f"{order.hospital.database}, documents in {order.hospital.documents}",
        "records": len(clerk.entered),
        "corrections": clerk.corrections,
        "entered_again": clerk.again,
        "steps": len(steps),
        "done": dict(sorted(it.done.items())),
        "connections": wire.connections,
        "frames": dict(wire.frames),
        "duplicates_answered": verdict.duplicates_answered(houses[HOSPITAL]),
        "samples": it.samples,
        "ended_by_themselves": {p.name: p.own_ends for p in it.processes.values() if p.own_ends},
        "netem": {True: "used", False: "not in this kernel", None: "not asked"}[it.netem],
        "seconds": {
            "preparing": round(prepared, 1),
            "faults": round(faulty, 1),
            "healing": round(settled, 1),
        },
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
