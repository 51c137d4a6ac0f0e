"""What a token must be: docs/PROTOCOL.md, "Tokens"."""

import base64
import json
from typing import Any

import boto3
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.auth.tokens import Tokens
from chalicelib.aws.secrets import Secrets
from chalicelib.errors import ConfigurationError, Unauthenticated
from chalicelib.protocol.grants import Grants, Rights, Verb
from chalicelib.protocol.identity import Identity
from chalicelib.settings import Settings
from tests.support.signing import EC, NEW, NOW, OLD, RSA, claims, key_server, public, token

PUBLIC_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def tokens(now: float = NOW, **settings: Any) -> Tokens:
    secrets = Secrets(boto3.session.Session(), lambda: now)
    return Tokens(Settings("t", **{"jwt_secrets": f"{OLD},{NEW}"} | settings), secrets, lambda: now)


def refusal(text: str, verifier: Tokens | None = None) -> str:
    """Return the reason for our log; the client learns only that it is not signed in."""
    with pytest.raises(Unauthenticated) as refused:
        (verifier or tokens()).verify(text)
    assert str(refused.value) == "Not signed in."
    return refused.value.reason


class TestAccepted:
    def test_a_token_proves_user_device_expiry_and_grants(self) -> None:
        text = token(deviceId="phone", channels={"chat:*": ["subscribe"]}, users=["*"], scope="openid")
        granted = Rights({"chat:*": frozenset({Verb.SUBSCRIBE})}, frozenset({"*"}))
        assert tokens().verify(text) == Identity("u_123", "phone", NOW + 3_600, Grants(granted))

    @pytest.mark.parametrize("secret", [OLD, NEW])
    def test_a_token_may_be_signed_with_any_of_the_secrets(self, secret: str) -> None:
        assert tokens().verify(token(secret)).user_id == "u_123"

    def test_we_sign_with_the_newest_secret_our_audience_and_our_issuer(self) -> None:
        ours = tokens(jwt_audience="peal", jwt_issuer="https://us.example")
        text = ours.sign(claims())
        assert ours.verify(text).user_id == "u_123"
        assert jwt.decode(text, NEW, ["HS256"], audience="peal", options={"verify_exp": False}) == (
            claims(aud="peal", iss="https://us.example")
        )

    @pytest.mark.parametrize("audience", ["peal", ["other", "peal"]])
    def test_our_audience_may_be_one_of_several(self, audience: Any) -> None:
        assert tokens(jwt_audience="peal").verify(token(aud=audience)).user_id == "u_123"

    @pytest.mark.parametrize("name", ["nbf", "iat"])
    def test_clocks_may_differ_by_five_seconds(self, name: str) -> None:
        assert tokens().verify(token(**{name: NOW + 5})).user_id == "u_123"

    def test_the_expiry_may_have_a_fraction(self) -> None:
        assert tokens().verify(token(exp=NOW + 60.9)).expires_at == NOW + 60


class TestRefused:
    @pytest.mark.parametrize(
        ("overrides", "reason"),
        [
            ({"exp": NOW}, "expired"),
            ({"exp": NOW - 3_600}, "expired"),
            ({"exp": None}, "MissingRequiredClaimError"),
            ({"exp": "soon"}, "claim exp"),
            ({"exp": True}, "claim exp"),
            ({"exp": NOW * 1000}, "claim exp"),
            ({"exp": float("inf")}, "claim exp"),
            ({"nbf": NOW + 6}, "claim nbf"),
            ({"nbf": "later"}, "claim nbf"),
            ({"iat": NOW + 6}, "claim iat"),
            ({"sub": None}, "MissingRequiredClaimError"),
            ({"sub": ""}, "claim sub"),
            ({"sub": "a#b"}, "claim sub"),
            ({"sub": "x" * 129}, "claim sub"),
            ({"deviceId": 7}, "claim deviceId"),
            ({"deviceId": "a/b"}, "claim deviceId"),
            ({"channels": ["chat:a"]}, "claim channels"),
            ({"deny": {"channel": {}}}, "claim deny"),
        ],
    )
    def test_a_malformed_claim(self, overrides: dict[str, Any], reason: str) -> None:
        assert refusal(token(**overrides)) == reason

    def test_a_subject_that_is_not_a_string(self) -> None:
        text = jwt.encode(claims(), NEW)
        forged = jwt.PyJWS().encode(json.dumps(claims() | {"sub": 7}).encode(), NEW, "HS256")
        assert tokens().verify(text)
        assert refusal(forged) == "InvalidSubjectError"

    @pytest.mark.parametrize("audience", [None, "other", ["other"], 7])
    def test_a_wrong_or_missing_audience(self, audience: Any) -> None:
        refusal(token(aud=audience), tokens(jwt_audience="peal"))

    def test_an_audience_when_none_is_configured(self) -> None:
        assert refusal(token(aud="other")) == "InvalidAudienceError"

    @pytest.mark.parametrize("issuer", [None, "https://them.example"])
    def test_a_wrong_or_missing_issuer(self, issuer: str | None) -> None:
        refusal(token(iss=issuer), tokens(jwt_issuer="https://us.example"))

    @pytest.mark.parametrize("secret", ["another-secret-of-more-than-32-bytes", OLD + NEW, f"{OLD},{NEW}"])
    def test_a_token_signed_with_another_secret(self, secret: str) -> None:
        assert refusal(token(secret)) == "no key fits"

    def test_every_token_when_no_key_is_configured(self) -> None:
        closed = tokens(jwt_secrets=None)
        assert refusal(token(), closed) == "no key fits"
        assert refusal(token(RSA, "RS256", {"kid": "k"}), closed) == "no key fits"

    @pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "\ud800", "x" * 8_193, "." * 99])
    def test_text_that_is_not_a_token(self, text: str) -> None:
        refusal(text)

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 7, ["HS256"], "HS384", "hs256", "PS256"])
    def test_any_other_algorithm(self, algorithm: Any) -> None:
        header, body, signature = token().split(".")
        header = encode({"alg": algorithm, "typ": "JWT"})
        refusal(f"{header}.{body}.{signature}")
        refusal(f"{header}.{body}.")

    def test_an_unknown_critical_extension(self) -> None:
        refusal(token(headers={"crit": ["exp"]}))

    def test_a_public_key_used_as_a_secret(self) -> None:
        # A forger uses our public key, which everyone knows, as if it were a secret.
        with key_server() as server:
            server.keys = [public(RSA, "k")]
            verifier = tokens(jwt_secrets=None, jwt_jwks_url=server.url)
            header, body = encode({"alg": "HS256", "kid": "k"}), encode(claims())
            for key in (PUBLIC_PEM, json.dumps(public(RSA, "k")).encode()):
                signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
                signed = signature.sign(f"{header}.{body}".encode(), key)
                forged = f"{header}.{body}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}"
                assert refusal(forged, verifier) == "no key fits"
            assert server.fetches == 0

    @pytest.mark.slow
    @given(st.data())
    def test_a_token_with_one_character_changed(self, data: st.DataObject) -> None:
        text = token()
        at = data.draw(st.integers(0, len(text) - 1))
        other = data.draw(st.sampled_from("ABCwxyz0189-_.=").filter(lambda character: character != text[at]))
        refusal(text[:at] + other + text[at + 1 :])

    @pytest.mark.slow
    @given(st.integers(1, 200))
    def test_a_truncated_token(self, length: int) -> None:
        text = token()
        refusal(text[: max(0, len(text) - length)])

    def test_other_claims_under_a_valid_signature(self) -> None:
        header, _, signature = token().split(".")
        refusal(f"{header}.{encode(claims(sub='u_456'))}.{signature}")


class TestPublicKeys:
    @pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")], ids=["RS256", "ES256"])
    def test_they_verify_what_the_private_key_has_signed(self, key: Any, algorithm: str) -> None:
        with key_server() as server:
            server.keys = [public(RSA, "r"), public(EC, "e")]
            verifier = tokens(jwt_jwks_url=server.url)
            fits = {"RS256": "r", "ES256": "e"}[algorithm]
            other = {"RS256": "e", "ES256": "r"}[algorithm]
            assert verifier.verify(token(key, algorithm, {"kid": fits})).user_id == "u_123"
            assert refusal(token(key, algorithm, {"kid": other}), verifier) == "no key fits"
            assert refusal(token(key, algorithm, {"kid": "x"}), verifier) == "no key fits"
            assert refusal(token(key, algorithm), verifier) == "no key fits"
            # The secrets still work beside them.
            assert verifier.verify(token()).user_id == "u_123"

    def test_they_are_never_fetched_from_where_the_token_says(self) -> None:
        with key_server() as ours, key_server() as theirs:
            theirs.keys = [public(RSA, "k")]
            verifier = tokens(jwt_jwks_url=ours.url)
            lures = {"kid": "k", "jku": theirs.url, "x5u": theirs.url, "jwk": public(RSA, "k")}
            assert refusal(token(RSA, "RS256", lures), verifier) == "no key fits"
            assert (ours.fetches, theirs.fetches) == (1, 0)


def test_nothing_can_be_signed_without_a_secret() -> None:
    with pytest.raises(ConfigurationError) as missing:
        tokens(jwt_secrets=None).sign(claims())
    assert str(missing.value) == (
        "JWT_SECRETS must be set to sign tokens, for example JWT_SECRETS=a-secret-of-at-least-32-bytes"
    )


def encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
