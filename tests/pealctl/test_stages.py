"""Where a stage is, how requests are signed, and the sentence for each answer that is wrong."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pealctl import target
from pealctl.api import Api
from pealctl.errors import CommandError, Unavailable
from pealctl.target import Signer, Target
from tests.conftest import PROJECT
from tests.pealctl.conftest import Done, say

REQUEST = "GET /connections/c"


class Server(HTTPServer):
    """Answer every request with the next answer, and remember the request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.seen: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.seen.append((self.command, self.path, self.headers, body))
        status, answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if status == 0:
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


IDENTITY = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
    b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


@pytest.fixture
def account(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server in place of AWS, which answers everything with an identity."""
    monkeypatch.chdir(PROJECT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    server.answers = [(200, IDENTITY)]
    return server


def ask(server: Server, *answers: tuple[int, Any], name: str = "dev", signer: Signer | None = None) -> Any:
    """Ask a stage of that name for the connection c, with these answers; the last one is repeated."""
    server.answers = [
        (status, text if isinstance(text, bytes) else json.dumps(text).encode()) for status, text in answers
    ]
    stage = Target(name, server.url, lambda: "", signer)
    return Api(stage, sleep=lambda _: None).get("connections", "c")


class TestAnswers:
    def test_a_read_is_tried_three_times(self, server: Server) -> None:
        assert ask(server, (0, b""), (500, {}), (200, {"a": 1})) == {"a": 1}
        assert len(server.seen) == 3

    def test_a_change_is_tried_once(self, server: Server) -> None:
        server.answers = [(503, b"{}")]
        with pytest.raises(Unavailable):
            Api(Target("dev", server.url, lambda: "", None)).post("broadcast", body={})
        assert [command for command, *_ in server.seen] == ["POST"]

    @pytest.mark.parametrize(
        ("status", "answer", "kind", "sentence"),
        [
            (400, {"error": {"code": "invalid", "message": "limit must be."}}, CommandError, "limit must be."),
            (404, {"error": {"code": "not_found", "message": "No such one."}}, CommandError, "No such one."),
            (404, b"<html>", CommandError, f"{REQUEST} is answered 404: not by Peal, is the URL right?"),
            (413, {"message": "Request Too Long"}, CommandError, f"{REQUEST} is answered 413: Request Too Long"),
            (
                403,
                {"message": "Missing Authentication Token"},
                CommandError,
                f"{REQUEST} is refused (403): Missing Authentication Token. "
                "The stage may be older than this command: deploy it again.",
            ),
            (
                403,
                {"message": "User: x is not authorized to perform: execute-api:Invoke."},
                CommandError,
                f"{REQUEST} is refused (403): User: x is not authorized to perform: execute-api:Invoke. "
                "You need execute-api:Invoke for it: docs/OPERATIONS.md, Command line.",
            ),
            (
                429,
                {"message": "Too Many Requests"},
                Unavailable,
                f"{REQUEST} was refused for now (429): too many requests. Try again.",
            ),
            (
                500,
                {"error": {"code": "internal_error", "message": "Something went wrong on our side."}},
                Unavailable,
                f"{REQUEST} failed on the stage's side (500): see docs/OPERATIONS.md, Questions. Try again.",
            ),
            (
                504,
                {"message": "Endpoint request timed out"},
                Unavailable,
                f"{REQUEST} was not answered within API Gateway's 29 s. It may still be running, and succeed.",
            ),
            (200, b"<html>", CommandError, "What answers at URL is not Peal's REST API: is the URL right?"),
            (200, b"[]", CommandError, "What answers at URL is not Peal's REST API: is the URL right?"),
        ],
    )
    def test_refusals(self, server: Server, status: int, answer: Any, kind: type, sentence: str) -> None:
        with pytest.raises(kind) as error:
            ask(server, (status, answer))
        assert str(error.value) == sentence.replace("URL is not", f"{server.url} is not")

    def test_local_failures(self, server: Server) -> None:
        with pytest.raises(
            Unavailable, match=r"^GET /connections/c failed .* see the output of `make dev`. Try again.$"
        ):
            ask(server, (502, {}), name="local")

    def test_no_answer(self, server: Server) -> None:
        with pytest.raises(Unavailable) as error:
            ask(server, (0, b""))
        reason = "Remote end closed connection without response"
        assert str(error.value) == f"{server.url} does not answer ({reason}): try again."

    def test_an_answer_of_another_version(self, server: Server) -> None:
        answer = ask(server, (200, {"page": {}}))
        with pytest.raises(CommandError) as error:
            answer["page"]["next"]
        assert str(error.value) == "The stage's answer has no 'next': it runs a different version from this command."

    @pytest.mark.slow
    def test_no_local_stage(self) -> None:
        done = say("--url", "http://127.0.0.1:9", "connections")
        assert done == Done(
            1,
            "",
            "Nothing answers at http://127.0.0.1:9 ([Errno 111] Connection refused): start it with `make dev`, pass "
            "its --url, or name a --stage on AWS.\n",
        )


class TestSigning:
    def test_requests_to_aws_are_signed(self, server: Server) -> None:
        """Paths hold `=` percent-encoded, and signatures hold that encoded once more."""
        signer = Signer(Credentials("AKID", "secret", "token"), "eu-central-1")
        server.answers = [(200, b"{}")]
        api = Api(Target("dev", server.url, lambda: "", signer))
        api.get("connections", "a+b=", limit=1, after="x y+", epoch=None)
        api.post("users", "u@1", "messages", body={"text": "grüße"})
        assert [path for _, path, *_ in server.seen] == [
            "/api/connections/a%2Bb%3D?limit=1&after=x%20y%2B",
            "/api/users/u%401/messages",
        ]
        for method, path, headers, body in server.seen:
            again = AWSRequest(method, server.url.removesuffix("/api") + path, data=body)
            again.context["timestamp"] = headers["X-Amz-Date"]
            auth = SigV4Auth(signer.credentials, "execute-api", signer.region)
            for name in ("X-Amz-Date", "X-Amz-Security-Token", "Content-Type"):
                if name in headers:
                    again.headers[name] = headers[name]
            signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
            assert f"Credential=AKID/{headers['X-Amz-Date'][:8]}/eu-central-1/execute-api/" in headers["Authorization"]
            assert headers["Authorization"].endswith(f"Signature={signature}")

    def test_local_requests_are_not_signed(self, server: Server) -> None:
        ask(server, (200, {}), name="local")
        assert "Authorization" not in server.seen[0][2]


class TestFinding:
    def test_the_local_stage_is_where_make_dev_serves(self) -> None:
        found = target.find("local", None, None, PROJECT)
        assert (found.url, found.socket_url, found.signer) == ("http://127.0.0.1:8000", "ws://127.0.0.1:8001/api", None)

    @pytest.mark.parametrize("url", ["http://127.0.0.2:1", "http://localhost:1/", "https://[::1]:1"])
    def test_a_local_stage_may_have_another_url(self, url: str) -> None:
        found = target.find("local", url, "ws://127.0.0.1:2/api", PROJECT)
        assert (found.url, found.socket_url, found.signer) == (url.rstrip("/"), "ws://127.0.0.1:2/api", None)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("url", "region"),
        [
            ("https://f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com/api", "eu-central-1"),
            ("https://f6g7h8i9j0.execute-api.cn-north-1.amazonaws.com.cn/api", "cn-north-1"),
            ("https://api.example.com", "eu-central-1"),
        ],
    )
    def test_a_url_elsewhere_is_signed_for_its_region(self, account: Server, url: str, region: str) -> None:
        found = target.find("local", url, None, PROJECT)
        assert found.signer
        assert (found.name, found.url, found.signer.region) == (url, url, region)
        with pytest.raises(CommandError) as error:
            _ = found.socket_url
        assert str(error.value) == (
            "Where clients connect is not known: pass --socket-url wss://..., or name the --stage instead of its --url."
        )

    def test_a_stage_that_is_not_deployed(self, account: Server) -> None:
        account.answers = [(200, IDENTITY), (200, b'{"item":[]}')]
        with pytest.raises(CommandError) as error:
            target.find("dev", None, None, PROJECT)
        assert str(error.value) == (
            "Stage dev is not deployed to account 123456789012 in eu-central-1: `make deploy STAGE=dev`, or are these "
            "the wrong credentials or Region?"
        )


class TestNoAccess:
    def test_no_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        assert say("--stage", "dev", "connections") == Done(
            1, "", "There are no AWS credentials: run `aws configure` or `aws sso login`, or export AWS_PROFILE.\n"
        )

    def test_no_such_stage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Without credentials or a Region, which are asked for later.
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        assert say("--stage", "qa", "connections").err == (
            ".chalice/config.json has no stage qa; stages for AWS are dev and prod.\n"
        )

    def test_no_permission_to_find_the_stage(self, account: Server) -> None:
        denied = {"__type": "AccessDeniedException", "message": "User: x may not."}
        account.answers = [(200, IDENTITY), (403, json.dumps(denied).encode())]
        assert say("--stage", "dev", "connections") == Done(
            1,
            "",
            "AWS refused GetRestApis (AccessDeniedException): User: x may not. If you may not ask AWS where the "
            "stage is, pass --url.\n",
        )

    def test_aws_stops_answering(self, account: Server) -> None:
        account.answers = [(200, IDENTITY), (0, b"")]
        done = say("--stage", "dev", "connections")
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("AWS could not be asked: ")


@pytest.mark.slow
def test_a_directory_without_a_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The local stage needs none: only stages on AWS are looked up in it."""
    monkeypatch.chdir(tmp_path)
    assert say("--url", "http://127.0.0.1:9", "connections").err.startswith("Nothing answers")
