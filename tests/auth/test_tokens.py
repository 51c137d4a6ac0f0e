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
    """What our log would say; the client hears nothing but that it is not signed in."""
    with pytest.raises(Unauthenticated) as refused:
        (verifier or tokens()).verify(text)
    assert str(refused.value) == "Not signed in."
    return refused.value.reason


class TestWhatIsAccepted:
    def test_it_proves_a_user_an_end_a_device_and_grants(self) -> None:
        text = token(deviceId="phone", channels={"chat:*": ["subscribe"]}, users=["*"], scope="openid")
        granted = Rights({"chat:*": frozenset({Verb.SUBSCRIBE})}, frozenset({"*"}))
        assert tokens().verify(text) == Identity("u_123", "phone", NOW + 3_600, Grants(granted))

    @pytest.mark.parametrize("secret", [OLD, NEW])
    def test_any_of_the_secrets_may_have_signed_it(self, secret: str) -> None:
        assert tokens().verify(token(secret)).user_id == "u_123"

    def test_what_we_sign_is_signed_with_the_newest_and_has_our_audience_and_issuer(self) -> None:
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
    def test_clocks_may_be_some_seconds_apart(self, name: str) -> None:
        assert tokens().verify(token(**{name: NOW + 5})).user_id == "u_123"

    def test_the_end_may_have_a_fraction(self) -> None:
        assert tokens().verify(token(exp=NOW + 60.9)).expires_at == NOW + 60


class TestWhatIsRefused:
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
    def test_a_claim_that_is_not_what_it_must_be(self, overrides: dict[str, Any], reason: str) -> None:
        assert refusal(token(**overrides)) == reason

    def test_a_subject_that_is_no_text(self) -> None:
        text = jwt.encode(claims(), NEW)
        forged = jwt.PyJWS().encode(json.dumps(claims() | {"sub": 7}).encode(), NEW, "HS256")
        assert tokens().verify(text)
        assert refusal(forged) == "InvalidSubjectError"

    @pytest.mark.parametrize("audience", [None, "other", ["other"], 7])
    def test_another_audience_or_none(self, audience: Any) -> None:
        refusal(token(aud=audience), tokens(jwt_audience="peal"))

    def test_an_audience_where_we_have_none(self) -> None:
        assert refusal(token(aud="other")) == "InvalidAudienceError"

    @pytest.mark.parametrize("issuer", [None, "https://them.example"])
    def test_another_issuer_or_none(self, issuer: str | None) -> None:
        refusal(token(iss=issuer), tokens(jwt_issuer="https://us.example"))

    @pytest.mark.parametrize("secret", ["another-secret-of-more-than-32-bytes", OLD + NEW, f"{OLD},{NEW}"])
    def test_another_secret(self, secret: str) -> None:
        assert refusal(token(secret)) == "no key fits"

    def test_where_no_key_is_configured_every_token(self) -> None:
        closed = tokens(jwt_secrets=None)
        assert refusal(token(), closed) == "no key fits"
        assert refusal(token(RSA, "RS256", {"kid": "k"}), closed) == "no key fits"

    @pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "\ud800", "x" * 8_193, "." * 99])
    def test_what_is_no_token_at_all(self, text: str) -> None:
        refusal(text)

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 7, ["HS256"], "HS384", "hs256", "PS256"])
    def test_any_other_algorithm_and_none(self, algorithm: Any) -> None:
        header, body, signature = token().split(".")
        header = encode({"alg": algorithm, "typ": "JWT"})
        refusal(f"{header}.{body}.{signature}")
        refusal(f"{header}.{body}.")

    def test_a_critical_extension_that_nobody_here_knows(self) -> None:
        refusal(token(headers={"crit": ["exp"]}))

    def test_a_secret_that_is_a_public_key_in_disguise(self) -> None:
        # Whoever knows our public key, as everyone does, signs with it as if it were a secret.
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

    @given(st.data())
    def test_a_token_in_which_one_character_is_another(self, data: st.DataObject) -> None:
        text = token()
        at = data.draw(st.integers(0, len(text) - 1))
        other = data.draw(st.sampled_from("ABCwxyz0189-_.=").filter(lambda character: character != text[at]))
        refusal(text[:at] + other + text[at + 1 :])

    @given(st.integers(1, 200))
    def test_a_token_that_is_cut(self, length: int) -> None:
        text = token()
        refusal(text[: max(0, len(text) - length)])

    def test_claims_under_the_signature_of_others(self) -> None:
        header, _, signature = token().split(".")
        refusal(f"{header}.{encode(claims(sub='u_456'))}.{signature}")


class TestPublicKeys:
    @pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")], ids=["RS256", "ES256"])
    def test_they_verify_what_their_private_half_has_signed(self, key: Any, algorithm: str) -> None:
        with key_server() as server:
            server.keys = [public(RSA, "r"), public(EC, "e")]
            verifier = tokens(jwt_jwks_url=server.url)
            fits = {"RS256": "r", "ES256": "e"}[algorithm]
            other = {"RS256": "e", "ES256": "r"}[algorithm]
            assert verifier.verify(token(key, algorithm, {"kid": fits})).user_id == "u_123"
            assert refusal(token(key, algorithm, {"kid": other}), verifier) == "no key fits"
            assert refusal(token(key, algorithm, {"kid": "x"}), verifier) == "no key fits"
            assert refusal(token(key, algorithm), verifier) == "no key fits"
            # The secrets go on working beside them.
            assert verifier.verify(token()).user_id == "u_123"

    def test_they_are_never_had_from_where_the_token_says(self) -> None:
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
