"""wss:// and https:// with a certificate that clients can be made to trust, and the authority behind it."""

import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from gatewaykit import ECHO, RECORDING, SECONDS, handshake, read_to_end
from gatewayprocesses import FREE, bare_environment
from localgateway import GatewayError, Limits
from localgateway.wire.tls import make_tls


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    return tmp_path / "cache" / "localgateway"


def trusting(gateway):
    """What a client is given that trusts the gateway's authority and nothing else."""
    return ssl.create_default_context(cafile=gateway.tls.ca_path)


@pytest.mark.slow
class TestClients:
    def test_a_client_that_trusts_the_authority_reaches_the_handlers(self, serve):
        probe = serve(ECHO, tls=True)
        assert probe.gateway.url == f"wss://127.0.0.1:{probe.address[1]}/api"
        assert probe.gateway.management_endpoint == f"https://127.0.0.1:{probe.address[1]}/api"
        alice = probe.joins(ssl=trusting(probe.gateway))
        alice.sends("over TLS")
        assert alice.receives() == "over TLS"

    @pytest.mark.parametrize("name", ["localhost", "[::1]", "peal.test"])
    def test_the_certificate_is_for_every_loopback_name_and_the_allowed_ones(self, serve, name):
        probe = serve(ECHO, tls=True, allow_hosts=["Peal.test"])
        connection = socket.create_connection(probe.address)
        options = {"sock": connection, "ssl": trusting(probe.gateway), "server_hostname": name.strip("[]")}
        alice = probe.joins(**options)
        alice.sends("hello")
        assert alice.receives() == "hello"

    def test_a_client_that_does_not_trust_it_does_not_connect(self, serve):
        probe = serve(ECHO, tls=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            probe.joins(ssl=ssl.create_default_context())

    def test_a_client_without_tls_is_disconnected_and_others_are_served(self, serve):
        probe = serve(ECHO, tls=True)
        assert not read_to_end(probe.raw(handshake())).startswith(b"HTTP")
        alice = probe.joins(ssl=trusting(probe.gateway))
        alice.sends("alive")
        assert alice.receives() == "alive"

    def test_a_client_that_never_finishes_the_handshake_is_disconnected(self, serve):
        probe = serve(ECHO, tls=True, limits=Limits(http_seconds=0.1))
        assert read_to_end(probe.raw(b"\x16\x03\x01")) == b""

    def test_closing_takes_no_longer_than_without_tls(self, serve):
        probe = serve(RECORDING, tls=True, limits=Limits(close_seconds=SECONDS))
        alice = probe.joins(ssl=trusting(probe.gateway))
        # The client itself waits for SECONDS; what it gives up on, it cuts.
        alice.socket.close(4001, "bye")
        assert alice.is_closed_with(4001)
        probe.event()
        assert probe.event()["requestContext"]["disconnectStatusCode"] == 4001

    def test_a_refused_handshake_can_be_read_to_the_end(self, serve):
        probe = serve(
            """
            @app.on_ws_connect()
            def connect(event):
                return Response(status_code=401, body="")
            """,
            tls=True,
        )
        with pytest.raises(InvalidStatus) as refused:
            probe.joins(ssl=trusting(probe.gateway))
        assert refused.value.response.status_code == 401
        assert b"Unauthorized" in refused.value.response.body

    def test_the_connect_event_says_https(self, serve):
        probe = serve(RECORDING, tls=True)
        probe.joins(ssl=trusting(probe.gateway))
        event = probe.event()
        assert event["headers"]["X-Forwarded-Proto"] == "https"
        assert event["headers"]["X-Forwarded-Port"] == str(probe.address[1])

    def test_another_process_sends_with_the_printed_environment_alone(self, serve):
        probe = serve(RECORDING, tls=True)
        alice, alice_id = probe.joins(ssl=trusting(probe.gateway)), probe.connection_id()
        source = (
            "import boto3, sys; client = boto3.client('apigatewaymanagementapi', endpoint_url=sys.argv[1]);"
            "client.post_to_connection(ConnectionId=sys.argv[2], Data='from outside')"
        )
        subprocess.run(
            [sys.executable, "-c", source, probe.gateway.management_endpoint, alice_id],
            env=bare_environment()
            | {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
            | dict(probe.gateway.environment),
            check=True,
            timeout=SECONDS,
        )
        assert alice.receives() == "from outside"


class TestAuthority:
    def test_it_outlives_the_gateway_so_that_trust_is_given_once(self, cache):
        first = make_tls(())
        content = first.ca_path.read_bytes()
        assert make_tls(()).ca_path.read_bytes() == content
        assert first.ca_path == cache / "ca.pem"

    def test_its_key_is_for_its_owner_alone(self, cache):
        make_tls(())
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
        assert stat.S_IMODE((cache / "ca-key.pem").stat().st_mode) == 0o600
        assert b"PRIVATE KEY" in (cache / "ca-key.pem").read_bytes()
        assert b"PRIVATE KEY" not in (cache / "ca.pem").read_bytes() + (cache / "bundle.pem").read_bytes()

    def test_nothing_else_is_left_in_its_directory(self, cache):
        make_tls(())
        make_tls(())
        assert {path.name for path in cache.iterdir()} == {"ca-key.pem", "ca.pem", "bundle.pem"}

    def test_a_relative_cache_directory_counts_as_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert make_tls(()).ca_path == tmp_path / ".cache" / "localgateway" / "ca.pem"

    def test_an_unusable_cache_is_reported_in_one_sentence(self, cache):
        cache.mkdir(parents=True)
        (cache / "ca-key.pem").write_text("no certificate")
        with pytest.raises(GatewayError, match=f"^{cache} cannot be used for certificates: "):
            make_tls(())


class TestBundle:
    def test_a_configured_bundle_stays_trusted(self, monkeypatch, tmp_path):
        trusted = tmp_path / "company.pem"
        trusted.write_text("a certificate of the company")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(trusted))
        tls = make_tls(())
        assert tls.bundle_path.read_bytes() == b"a certificate of the company\n" + tls.ca_path.read_bytes()

    def test_the_default_bundle_is_that_of_boto3(self):
        tls = make_tls(())
        assert tls.bundle_path.read_bytes().count(b"BEGIN CERTIFICATE") > 50

    def test_a_shell_that_already_trusts_the_gateway_changes_nothing(self, monkeypatch):
        tls = make_tls(())
        before = tls.bundle_path.read_bytes()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.bundle_path))
        assert make_tls(()).bundle_path.read_bytes() == before

    def test_handlers_are_given_it_and_afterwards_everything_is_as_before(self, serve):
        probe = serve(ECHO, tls=True)
        assert probe.gateway.environment["AWS_CA_BUNDLE"] == str(probe.gateway.tls.bundle_path)
        assert os.environ["AWS_CA_BUNDLE"] == str(probe.gateway.tls.bundle_path)
        probe.gateway.stop()
        assert "AWS_CA_BUNDLE" not in os.environ


@pytest.mark.slow
class TestCommandLine:
    def test_it_says_what_to_trust_and_how(self, run, cache):
        gateway = run(*FREE, "--tls")
        assert gateway.prints(r"^WebSocket +(wss)://127\.0\.0\.1:\d+/api$") == "wss"
        assert gateway.prints(r"^@connections +(https)://")
        ca = gateway.prints(r"^Clients must trust (.*):$")
        assert Path(ca) == cache / "ca.pem"
        assert gateway.prints(r"^Node\.js +export NODE_EXTRA_CA_CERTS=(.*)$") == ca
        bundle = gateway.prints(r"^Python, curl +export SSL_CERT_FILE=(.*)$")
        assert gateway.prints(r"^export AWS_CA_BUNDLE=(.*)$") == bundle
