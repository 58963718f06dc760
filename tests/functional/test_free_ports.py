"""The ports that tests give to servers are nobody else's."""

import socket

import pytest
from free_ports import END, FIRST, free_ports, stretch


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_workers_share_no_port(workers):
    all_of_them = [port for n in range(workers) for port in stretch(f"gw{n}", workers)]
    assert len(all_of_them) == len(set(all_of_them)) > 12_000
    assert min(all_of_them) >= FIRST and max(all_of_them) < END


def test_none_is_given_twice_or_while_somebody_listens():
    one, other = free_ports(2), free_ports(2)
    assert not set(one) & set(other)
    with socket.create_server(("127.0.0.1", one[0])):
        assert one[0] not in free_ports(5)
