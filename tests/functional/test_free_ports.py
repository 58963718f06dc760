"""The ports that tests give to servers are nobody else's."""

import socket

import free_ports as ports
import pytest
from free_ports import END, FIRST, free_port, free_ports, stretch


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_workers_share_no_port(workers):
    all_of_them = [port for n in range(workers) for port in stretch(f"gw{n}", workers)]
    assert len(all_of_them) == len(set(all_of_them)) > 2_000
    assert min(all_of_them) >= FIRST and max(all_of_them) < END


def test_who_takes_the_place_of_a_crashed_worker_has_ports_of_its_own():
    first, other = stretch("gw3", 3), stretch("gw11", 3)
    assert not set(first) & {port for n in range(3) for port in stretch(f"gw{n}", 3)}
    assert min(other) >= FIRST and max(other) < END


def test_none_is_given_twice():
    assert not set(free_ports(2)) & set(free_ports(2))


def test_none_is_given_that_somebody_listens_on(monkeypatch):
    taken, other = free_ports(2)
    monkeypatch.setattr(ports, "_UNTRIED", iter([taken, other]))
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port() == other
