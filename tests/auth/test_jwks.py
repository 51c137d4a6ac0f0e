"""Public keys are fetched from one place, seldom, and only those that fit count."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from chalicelib.auth.jwks import Jwks
from chalicelib.errors import ConfigurationError, JwksError
from tests.conftest import Clock
from tests.support.signing import EC, RSA, KeyServer, key_server, public


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server() as server:
        server.keys = [public(RSA, "r"), public(EC, "e")]
        yield server


@pytest.fixture
def jwks(server: KeyServer, clock: Clock) -> Jwks:
    return Jwks(server.url, clock)


class TestFetching:
    def test_keys_are_fetched_once_at_first_use(self, jwks: Jwks, server: KeyServer) -> None:
        assert server.fetches == 0
        assert jwks.key("r")
        assert jwks.key("e")
        assert server.fetches == 1

    def test_an_unknown_key_causes_one_fetch_a_minute(self, jwks: Jwks, server: KeyServer, clock: Clock) -> None:
        assert [jwks.key(f"x{n}") for n in range(5)] == [None] * 5
        assert server.fetches == 1
        server.keys.append(public(RSA, "new"))
        clock.now += 59
        assert jwks.key("new") is None
        clock.now += 1
        assert jwks.key("new")
        assert server.fetches == 2

    def test_a_revoked_key_is_forgotten_within_an_hour(self, jwks: Jwks, server: KeyServer, clock: Clock) -> None:
        assert jwks.key("r")
        server.keys = [public(EC, "e")]
        clock.now += 3_599
        assert jwks.key("r")
        clock.now += 1
        assert jwks.key("r") is None

    def test_keys_stay_in_force_while_fetching_fails(
        self, jwks: Jwks, server: KeyServer, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert jwks.key("r")
        server.status = 503
        clock.now += 3_600
        assert jwks.key("r")
        assert jwks.key("r")
        assert server.fetches == 2
        assert caplog.messages == ["The keys at JWT_JWKS_URL cannot be fetched: HTTP 503; the last ones stay in force"]
        server.status = 200
        clock.now += 60
        assert jwks.key("r")
        assert server.fetches == 3

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"status": 404}, "HTTP 404"),
            ({"body": b"<html>"}, "this is no JSON Web Key Set"),
            ({"body": b"[]"}, "this is no JSON Web Key Set"),
            ({"body": b'{"keys": 7}'}, "this is no JSON Web Key Set"),
            ({"body": b'{"keys": [{"kid": [], "kty": "RSA"}]}'}, "this is no JSON Web Key Set"),
            ({"body": b"[" * 200_000}, "this is no JSON Web Key Set"),
            ({"body": b" " * 262_145}, "more than 262144 bytes"),
        ],
    )
    def test_a_failed_first_fetch_is_our_fault_and_retried_at_once(
        self, jwks: Jwks, server: KeyServer, answer: dict[str, Any], reason: str
    ) -> None:
        vars(server).update(answer)
        with pytest.raises(JwksError) as failed:
            jwks.key("r")
        assert str(failed.value) == f"The keys at JWT_JWKS_URL cannot be fetched: {reason}"
        server.status, server.body = 200, None
        assert jwks.key("r")

    def test_an_unreachable_server_is_our_fault(self, clock: Clock) -> None:
        with key_server() as gone:
            url = gone.url
        with pytest.raises(JwksError, match="cannot be fetched: URLError$"):
            Jwks(url, clock).key("r")

    def test_a_redirect_is_not_followed(self, jwks: Jwks, server: KeyServer) -> None:
        with key_server() as elsewhere:
            server.status, server.headers = 302, {"Location": elsewhere.url}
            with pytest.raises(JwksError, match="HTTP 302$"):
                jwks.key("r")
            assert elsewhere.fetches == 0


def test_a_missing_cryptography_package_is_reported_at_start(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr("chalicelib.auth.jwks.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as refused:
        Jwks("https://login.example.com/jwks.json", clock)
    assert str(refused.value) == (
        "JWT_JWKS_URL needs the line cryptography in requirements.txt, "
        "for example JWT_JWKS_URL=https://login.example.com/jwks.json"
    )


class TestUsableKeys:
    @pytest.mark.parametrize(
        "entry",
        [
            pytest.param(public(RSA, "k", use="enc"), id="for encryption"),
            pytest.param(public(RSA, "k", alg="RS512"), id="another algorithm"),
            pytest.param(public(rsa.generate_private_key(65537, 1024), "k"), id="too short"),
            pytest.param(public(ec.generate_private_key(ec.SECP384R1()), "k"), id="another curve"),
            pytest.param({"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, id="a secret"),
            pytest.param(
                {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                id="Ed25519",
            ),
            pytest.param({"kty": "RSA", "kid": "k"}, id="no numbers"),
            pytest.param({"kty": "RSA", "kid": "k", "n": 7, "e": 7}, id="numbers that are no text"),
            pytest.param({"kty": 7, "kid": "k", "alg": []}, id="an algorithm that is no text"),
            pytest.param({"kty": "tomorrow", "kid": "k"}, id="unknown"),
            pytest.param({"kid": "k"}, id="no type"),
            pytest.param({"kty": "RSA"}, id="no id"),
            pytest.param("nonsense", id="no key at all"),
        ],
    )
    def test_unusable_keys_are_skipped_silently(
        self, jwks: Jwks, server: KeyServer, entry: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server.keys.insert(0, entry)
        assert jwks.key("k") is None
        assert jwks.key("r")
        assert caplog.messages == []

    def test_a_key_may_state_its_use_and_algorithm(self, jwks: Jwks, server: KeyServer) -> None:
        server.keys = [public(RSA, "k", use="sig", alg="RS256")]
        assert jwks.key("k")
