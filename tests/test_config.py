"""The configuration: what a file may say, which source wins, and that all problems are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import (
    UPSTREAMS_MAX,
    Config,
    load_config,
)
from gateway.core.errors import InvalidInput
from gateway.settings import (
    UPSTREAM_KINDS,
    CloudeventsUpstream,
    CmapiUpstream,
    LicensespringUpstream,
    SpoolUpstream,
    shown_url,
)

PARENT = """
[[upstream]]
name = "parent"
kind = "cmapi"
url = "https://host/api/1.0/instances/ID"
key_file = "keys/private.pem"
"""

METER = """
[[upstream]]
name = "meter"
kind = "cloudevents"
url = "https://host/events"
token_file = ""
dedupe_horizon = "24h"
"""
CLOUD = """
[[upstream]]
name = "cloud"
kind = "licensespring"
url = "https://api.licensespring.com"
api_key_file = "keys/api"
shared_key_file = "keys/shared"
hardware_id = "gateway-1"
"""
SPOOL = """
[[upstream]]
name = "usb"
kind = "spool"
dir = "./spool"
"""


def load(directory: Path, text: str, **environ: str) -> Config:
    path = directory / "gateway.toml"
    path.write_text(text)
    return load_config(path, environ, {})


def refusal(directory: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load(directory, text, **environ)
    return list(caught.value.problems)


def test_without_file_everything_is_at_its_default() -> None:
    config = load_config(None, {"PATH": "/bin"}, {})
    assert Config() == config
    assert config.data_dir == Path("var")
    assert config.dedupe.retention_ms == 3_600_000
    assert config.dedupe.forwarder_retention_ms == 30 * 86_400_000
    assert config.report.retention == "25mo"
    assert config.server.address == ("127.0.0.1", 7070)


def test_flag_wins_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("[server]\nworkers = 2\ndrain_s = 4\nmax_body_bytes = 2048\n")
    environ = {"GATEWAY_SERVER__WORKERS": "3", "GATEWAY_SERVER__DRAIN_S": "5"}
    config = load_config(path, environ, {"server.workers": 4, "redis.url": None})
    assert (config.server.workers, config.server.drain_s) == (4, 5.0)
    assert config.server.max_body_bytes == 2048
    assert config.redis.url == "embedded"


def test_wrong_value_that_is_overridden_is_no_problem(tmp_path: Path) -> None:
    config = load(tmp_path, "[server]\nworkers = 0\n", GATEWAY_SERVER__WORKERS="2")
    assert config.server.workers == 2


def test_environment_is_converted_by_the_type_of_the_setting() -> None:
    environ = {
        "GATEWAY_UI__ENABLED": "false",
        "GATEWAY_SERVER__TRUSTED_PROXIES": "10.0.0.1, 10.0.0.2",
        "GATEWAY_FORWARD__TIMEOUT_S": "2.5",
    }
    config = load_config(None, environ, {})
    assert config.ui.enabled is False
    assert config.server.trusted_proxies == ("10.0.0.1", "10.0.0.2")
    assert config.forward.timeout_s == 2.5


def test_service_links_of_kubernetes_are_no_settings() -> None:
    environ = {
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_SERVICE_PORT_HTTP": "7070",
        "GATEWAY_PORT": "tcp://10.0.0.1:7070",
        "GATEWAY_CMAPI_PORT_7070_TCP_ADDR": "10.0.0.1",
    }
    assert Config() == load_config(None, environ, {})


def test_relative_paths_start_beside_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, PARENT)
    upstream = config.upstreams[0]
    assert isinstance(upstream, CmapiUpstream)
    assert config.path(upstream.key_file) == tmp_path / "keys/private.pem"


def test_upstream_has_cautious_defaults(tmp_path: Path) -> None:
    for text in (PARENT, METER.replace('dedupe_horizon = "24h"', "")):
        upstream = load(tmp_path, text).upstreams[0]
        assert isinstance(upstream, CmapiUpstream | CloudeventsUpstream)
        assert (upstream.dedupe_horizon_ms, upstream.interval_ms) == (0, None)


def test_each_kind_of_upstream_has_its_own_settings(tmp_path: Path) -> None:
    parent, meter, cloud, spool = load(tmp_path, PARENT + METER + CLOUD + SPOOL).upstreams
    assert parent == CmapiUpstream(
        name="parent", url="https://host/api/1.0/instances/ID", key_file="keys/private.pem"
    )
    assert meter == CloudeventsUpstream(
        name="meter", url="https://host/events", dedupe_horizon="24h"
    )
    assert spool == SpoolUpstream(name="usb", dir="./spool")
    assert cloud == LicensespringUpstream(
        name="cloud",
        url="https://api.licensespring.com",
        api_key_file="keys/api",
        shared_key_file="keys/shared",
        hardware_id="gateway-1",
    )
    assert {type(each) for each in (parent, meter, cloud, spool)} == set(UPSTREAM_KINDS.values())


def test_each_kind_of_upstream_may_have_its_own_interval(tmp_path: Path) -> None:
    for text in (PARENT, METER, SPOOL):
        upstream = load(tmp_path, text + 'interval = "1s"\n').upstreams[0]
        assert upstream.interval_ms == 1_000


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://h:6379/0",
        "rediss://u:p@h",
        "redis://[::1]:6379",
        "unix:///run/valkey.sock",
        "unix://u:p@/run/v.sock?db=1",
        "redis+sentinel://u:p@h:26379,[::1]:26380,h3/NAME?sentinel_password=p",
        "rediss+sentinel://h/my.name?ssl_ca_certs=/ca.pem",
        "redis+cluster://h:1",
        "rediss+cluster://:p%40@h:1,h:2,h:3/?ssl_ca_certs=/ca.pem",
    ],
)
def test_each_kind_of_store_has_its_addresses(url: str) -> None:
    assert load_config(None, {}, {"redis.url": url}).redis.url == url


BAD = [
    ("[server]\nbind = '7070'", "server.bind is '7070'; expected HOST:PORT"),
    ("[server]\nbind = 'h:65536'", "server.bind is 'h:65536'; expected HOST:PORT"),
    ("[server]\nworkers = 0", "server.workers is 0; expected a number from 1 to 256"),
    ("[server]\nworkers = true", "server.workers is True; expected a number"),
    ("[server]\nworkers = '1'", "server.workers is '1'; expected a number"),
    ("[server]\ndrain_s = nan", "server.drain_s is nan; expected a number"),
    ("[server]\ntrusted_proxies = 'x'", "server.trusted_proxies is 'x'; expected a list"),
    ("[redis]\nurl = 'http://h'", "redis.url is 'http://h'; expected embedded, redis://"),
    ("[redis]\nurl = 'redis://'", "redis.url is 'redis://'; expected embedded"),
    ("[redis]\nurl = 'redis+sentinel://h:1'", "or redis+cluster://HOST:PORT,HOST:PORT"),
    ("[redis]\nurl = 'redis+sentinel://h:1,/M'", "redis+sentinel://HOST:PORT,HOST:PORT/NAME"),
    ("[redis]\nurl = 'redis+cluster://h:1/1'", "expected embedded"),
    ("[redis]\nurl = 'redis+cluster://u:hidden@h:x'", "'redis+cluster://***@h:x'; expected"),
    ("[redis]\nack = 'none'", "one of memory, written, local, replica, replica_fsync"),
    ("[redis]\nack_replicas = 0", "ack_replicas is 0; expected a number from 1 to 16"),
    ("[redis]\npartitions = 1000", "redis.partitions is 1000; expected a number from 1 to 999"),
    ("[dedupe]\nretention = '0'", "dedupe.retention is '0'; expected a duration"),
    ("[dedupe]\nretention = '3661d'", "dedupe.retention is '3661d'; expected a duration"),
    ("[dedupe]\nretention = '1h\\n'", "dedupe.retention is "),
    ("[report]\nretention = '25d'", "report.retention is '25d'; expected months"),
    ("[signing]\nalg = 'HS256'", "signing.alg is 'HS256'; expected one of RS256, ES256, EdDSA"),
    ("[log]\nlevel = 'loud'", "log.level is 'loud'; expected one of debug"),
    ("[log]\ncolour = 1", "log.colour: not a setting"),
    ("[logs]\nlevel = 'info'", "logs: not a section"),
    ("server = 1", "server: not a section"),
    ("upstream = 1", "upstream: not a list of tables"),
    (PARENT.replace("https", "ftp"), "url is 'ftp://host"),
    (PARENT.replace("host", "u:hidden@host"), "url is 'https://***@host"),
    (PARENT.replace("ID", "ID?token=hidden"), "ID?***'; expected http"),
    (
        PARENT.replace('"cmapi"', '"x"'),
        "kind is 'x'; expected one of cmapi, cloudevents, licensespring, spool",
    ),
    (PARENT.replace('kind = "cmapi"', ""), "kind is None; expected one of cmapi, cloudevents"),
    (PARENT.replace('"cmapi"', '["spool"]'), "kind is ['spool']; expected one of cmapi"),
    (PARENT.replace("key_file", "keyfile"), "key_file is missing; expected the path of a file"),
    (PARENT.replace("key_file", "keyfile"), "keyfile: not a setting"),
    (PARENT.replace('"parent"', '"a b"'), "name is 'a b'; expected 1 to 64 of"),
    (METER.replace("https://", ""), "url is 'host/events'; expected http:// or https://"),
    (METER.replace('token_file = ""', "token_file = 1"), "token_file is 1; expected the path"),
    (METER.replace('token_file = ""', 'token = "hidden"'), "token: not a setting"),
    (METER.replace("24h", "1 day"), "dedupe_horizon is '1 day'; expected a duration"),
    (SPOOL.replace('dir = "./spool"', ""), "dir is missing; expected the path of a directory"),
    (SPOOL.replace("./spool", ""), "dir is ''; expected the path of a directory"),
    (SPOOL + 'url = "https://host"', "url: not a setting"),
    (SPOOL + 'interval = "0"', "interval is '0'; expected a duration"),
    (PARENT + SPOOL.replace("usb", "parent"), "upstream 'parent': the name is given twice"),
    (PARENT + PARENT, "upstream 'parent': the name is given twice"),
    (PARENT * (UPSTREAMS_MAX + 1), f"expected at most {UPSTREAMS_MAX}"),
    ("[server", "is not TOML"),
    ("[redis]\nurl = ['redis://u:hidden@h']", "redis.url is "),
    ("[redis]\nurl = 'redis://u:hidden@'", "redis.url is 'redis://***@'"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_bad_setting_is_named_with_its_value_and_what_is_expected(
    tmp_path: Path, text: str, sentence: str
) -> None:
    problems = refusal(tmp_path, text)
    assert any(sentence in problem for problem in problems), problems
    assert not any("hidden" in problem or "\n" in problem for problem in problems)


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    problems = refusal(
        tmp_path,
        "[server]\nworkers = 0\nworker = 1\n[nowhere]\n" + PARENT.replace("https", "ftp"),
        GATEWAY_REDIS__ACK="never",
        GATEWAY_REDIS__PASSWORD="hidden",
    )
    named = ["url is", "nowhere", "server.workers is", "GATEWAY_REDIS__ACK is", "server.worker:"]
    for start in [*named, "GATEWAY_REDIS__PASSWORD: not a setting"]:
        assert any(start in problem for problem in problems), start
    assert len(problems) == 6
    assert not any("hidden" in problem for problem in problems)


def test_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be read: No such file"):
        load_config(tmp_path / "none.toml", {}, {})


def test_password_of_the_store_is_never_shown() -> None:
    config = load_config(None, {}, {"redis.url": "redis://user:s%40e@h:1/0?password=secret"})
    assert "redis://***@h:1/0?***" in repr(config)
    assert "secret" not in repr(config) + str(config.redis)
    assert shown_url("user:secret@h") == "***@h"
