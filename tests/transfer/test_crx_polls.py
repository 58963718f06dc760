"""How often the sender asks what is due: seldom while its links look for more by themselves."""

import asyncio
from types import SimpleNamespace

import pytest

from medportal.transfer import sender
from medportal.transfer.sender import POLLS_LEFT_OUT, SenderService, SenderSettings


def pauses_before_the_next_poll(
    monkeypatch: pytest.MonkeyPatch, at_work: list[bool], stops_at: int = 0
) -> int:
    """Return how many pauses there are; ``at_work`` says whether a link is, after each of them."""
    stop, pauses = asyncio.Event(), 0

    async def pause(_stop: asyncio.Event, _seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == stops_at:
            stop.set()

    class Link:
        @property
        def is_at_work(self) -> bool:
            return at_work[min(pauses, len(at_work)) - 1]

    monkeypatch.setattr(sender, "pause", pause)
    service = SenderService(SimpleNamespace(settings=SenderSettings("laboratory")))
    service._links = {"idle": SimpleNamespace(is_at_work=False), "hospital": Link()}
    asyncio.run(service._rest(stop))
    return pauses


def test_with_nothing_on_its_way_every_poll_asks(monkeypatch):
    assert pauses_before_the_next_poll(monkeypatch, [False]) == 1


def test_while_a_link_is_at_work_a_few_polls_are_left_out_and_never_more(monkeypatch):
    assert pauses_before_the_next_poll(monkeypatch, [True]) == 1 + POLLS_LEFT_OUT


def test_once_its_records_are_through_the_next_poll_asks(monkeypatch):
    assert pauses_before_the_next_poll(monkeypatch, [True, False]) == 2


def test_a_stop_is_not_waited_out(monkeypatch):
    assert pauses_before_the_next_poll(monkeypatch, [True], stops_at=2) == 2
