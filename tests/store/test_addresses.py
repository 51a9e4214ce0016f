"""What redis.url may say, and what of it is told when it says anything else."""

from __future__ import annotations

import pytest

from gateway.config import load_config
from gateway.core.errors import GatewayError, InvalidInput
from gateway.store.addresses import Kind, parse_address
from gateway.store.opening import make_topology


def test_address_of_sentinels_has_users_of_both_kinds_of_servers() -> None:
    address = parse_address(
        "rediss+sentinel://app:p%40w@h1:1,[::1]:2,h3/my.name"
        "?sentinel_username=watch&sentinel_password=s3cret&ssl_ca_certs=/ca.pem"
    )
    assert (address.kind, address.name, address.tls) == (Kind.SENTINEL, "my.name", True)
    assert address.hosts == (("h1", 1), ("::1", 2), ("h3", 26379))
    assert (address.options["username"], address.options["password"]) == ("app", "p@w")
    assert address.options["ssl_ca_certs"] == address.sentinel_options["ssl_ca_certs"] == "/ca.pem"
    own = {name: address.sentinel_options[name] for name in ("username", "password", "ssl")}
    assert own == {"username": "watch", "password": "s3cret", "ssl": True}
    assert address.sentinel_options["socket_timeout"] < address.options["socket_timeout"]
    assert not any(secret in repr(address) for secret in ("p@w", "p%40w", "s3cret"))


def test_address_of_a_cluster_has_nodes_to_begin_with() -> None:
    address = parse_address("redis+cluster://:pw@h1,h2:7000/?ssl_check_hostname=no")
    assert (address.kind, address.hosts) == (Kind.CLUSTER, (("h1", 6379), ("h2", 7000)))
    assert (address.tls, address.options["password"]) == (False, "pw")


def test_address_of_one_server_is_left_to_the_client() -> None:
    for url in ("redis://u:p@h/1?timeout=2", "unix:///s?db=1", "rediss://h"):
        assert parse_address(url).kind is Kind.SERVER


@pytest.mark.parametrize(
    "start", ["redis://h:1", "unix:///s", "redis+sentinel://h/n", "redis+cluster://h"]
)
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("colour=1", "parameter colour"),
        ("socket_timeout=soon", "a value"),
        # What the client knows, but may not have: what replies are made of, what is sent twice.
        ("db=1&decode_responses=yes", "parameter decode_responses"),
        ("retry_on_timeout=soon", "parameter retry_on_timeout"),
        ("retry=soon", "parameter retry"),
        ("connection_class=soon", "parameter connection_class"),
        ("host=soon", "parameter host"),
        ("locate=soon", "parameter locate"),
    ],
)
def test_query_that_is_not_known_is_told_without_its_value(
    start: str, query: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=rf"redis.url has a .*{words.split()[-1]}") as refused:
        make_topology(f"{start}?{query}")
    assert "soon" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://h", "redis+cluster://h"])
def test_only_sentinels_have_a_user_of_their_own(url: str) -> None:
    with pytest.raises(InvalidInput, match="parameter sentinel_password in its query"):
        make_topology(f"{url}?sentinel_password=x")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://app:12#s3cret@h", "redis://app:12?s3cret@h", "redis://app:s3cret/@h"),
        *("redis+cluster://app:12#s3cret@h", "redis+cluster://app:12?s3cret@h"),
        *("redis+sentinel://app:12#s3cret@h/n", "redis+sentinel://app:12?s3cret@h/n"),
        *("unix://app:12?s3cret@/s", "redis://h?password=s3cret#s3cret"),
    ],
)
def test_secret_that_is_not_percent_encoded_is_neither_a_host_nor_told(url: str) -> None:
    """Taken for the end of the host, it would be looked up as one: app, at port 12."""
    with pytest.raises(GatewayError) as refused:
        make_topology(load_config(None, {}, {"redis.url": url}).redis.url)
    assert "s3cret" not in str(refused.value)
    assert "redis.url" in str(refused.value)


@pytest.mark.parametrize("path", ["gateway", "1/2", "0x1", "123456"])
def test_path_of_a_server_is_the_number_of_a_database(path: str) -> None:
    """The client would take these for database 0, or 12."""
    with pytest.raises(GatewayError, match=r"redis\.url"):
        load_config(None, {}, {"redis.url": f"redis://h/{path}"})
    for url in ("redis://h/12", "redis://h/", "redis://u:p@[::1]:1/3?db=4", "rediss://h?db=1"):
        assert load_config(None, {}, {"redis.url": url}).redis.url == url


def test_hosts_are_bounded() -> None:
    with pytest.raises(InvalidInput, match="65 hosts; expected at most 64"):
        parse_address("redis+cluster://" + ",".join(f"h{each}" for each in range(65)))
