"""One answer to whether a host is this machine, however it is written."""

from __future__ import annotations

import pytest

from aeflow.runtime.addresses import address_of, is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1", "::1%lo"]
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost.example.org", "127.0.0.1.example.org", "127.0.0",
     "127.0.0.999", "::2", "fe80::1%eth0"],
)  # fmt: skip
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)


def test_a_mapped_address_is_that_of_ipv4() -> None:
    assert address_of("::ffff:10.1.2.3") == address_of("10.1.2.3")
    assert address_of("pacs.example.org") is None
