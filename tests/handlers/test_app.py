"""app.py's doors as Chalice runs them, through chalice.test.Client: no sockets, no gateway."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from chalice.test import Client

from chalicelib.errors import ConfigurationError, NotFound
from localgateway.testing import connect_event, disconnect_event, message_event
from tests.conftest import PROJECT
from tests.support.fakes import FakeWebsocketApi
from tools.documents.routes import ROUTES

ID = "L0SM9cOFvHcCIhw="


@pytest.fixture
def app(table_name: str, api: FakeWebsocketApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """app.py over a fresh table, sending into inboxes."""
    monkeypatch.setenv("CONNECTIONS_TABLE", table_name)
    monkeypatch.setenv("JOBS_QUEUE", "peal-test-jobs")
    monkeypatch.setenv("ALLOW_ANONYMOUS", "true")
    monkeypatch.setenv("ANONYMOUS_GRANTS", "everything")
    sys.modules.pop("app", None)
    module = importlib.import_module("app")
    monkeypatch.setattr(module.app.websocket_api, "send", api.send)
    monkeypatch.setattr(module.app.websocket_api, "close", api.close)
    yield module
    del sys.modules["app"]


@pytest.fixture
def client(app: ModuleType) -> Iterator[Client]:
    with Client(app.app, stage_name="local", project_dir=str(PROJECT)) as client:
        yield client


class TestWebsocketHandlers:
    def test_connect_registers(self, client: Client, app: ModuleType) -> None:
        answer = client.lambda_.invoke("websocket_connect", connect_event(ID, {"userId": "u_456"}))
        assert answer.payload == {"statusCode": 200}
        assert app.peal.connection(ID).user_id == "u_456"

    def test_connect_refuses_an_invalid_user(self, client: Client) -> None:
        event = connect_event(ID, {"userId": "a#b"})
        assert client.lambda_.invoke("websocket_connect", event).payload == {"statusCode": 400}

    def test_connect_without_a_connection_id_is_400(self, client: Client) -> None:
        event = connect_event(ID)
        del event["requestContext"]["connectionId"]
        assert client.lambda_.invoke("websocket_connect", event).payload == {"statusCode": 400}

    def test_message_runs_the_action(self, client: Client, api: FakeWebsocketApi) -> None:
        client.lambda_.invoke("websocket_connect", connect_event(ID, {"userId": "u_456"}))
        for text in ('{"action":"sendMessage","targetUserId":"u_456","text":"hi"}', '{"action":"broadcastAll"}'):
            answer = client.lambda_.invoke("websocket_message", message_event(text, ID))
            assert answer.payload == {"statusCode": 200}
        assert [frame["type"] for frame in api.frames(ID)] == ["message", "broadcast"]

    def test_disconnect_forgets(self, client: Client, app: ModuleType) -> None:
        client.lambda_.invoke("websocket_connect", connect_event(ID))
        answer = client.lambda_.invoke("websocket_disconnect", disconnect_event(ID))
        assert answer.payload == {"statusCode": 200}
        with pytest.raises(NotFound):
            app.peal.connection(ID)

    def test_the_handlers_have_the_names_that_chalice_deploys(self, app: ModuleType) -> None:
        handlers = app.app.websocket_handlers
        assert {key: handler.name for key, handler in handlers.items()} == {
            "$connect": "websocket_connect",
            "$default": "websocket_message",
            "$disconnect": "websocket_disconnect",
        }


class TestJobs:
    def test_a_job_is_done(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        job = json.dumps({"job": "advance", "channel": "chat:lobby", "shard": 0})
        client.lambda_.invoke("jobs", client.events.generate_sqs_event([job, "{"], queue_name="peal-test-jobs"))
        assert "Dropped a job that cannot be done" in caplog.text


class TestRestHandlers:
    def test_every_verb_answers(self, client: Client, app: ModuleType, api: FakeWebsocketApi) -> None:
        client.lambda_.invoke("websocket_connect", connect_event(ID, {"userId": "u_456"}))
        path, sent = "/connections/L0SM9cOFvHcCIhw%3D", {"sent": 1, "gone": 0, "failed": 0}
        assert self.post(client, f"{path}/messages", {"text": "1"}) == (200, sent)
        assert self.post(client, "/users/u_456/messages", {"data": 2}) == (200, sent)
        assert self.post(client, "/broadcast", {"note": "3"}) == (200, sent)
        assert [frame["type"] for frame in api.frames(ID)] == ["message", "message", "broadcast"]
        assert client.http.get(path).json_body["userId"] == "u_456"
        assert client.http.delete(path).status_code == 204
        assert client.http.get(path).status_code == 404

    def test_every_verb_of_a_channel_answers(self, client: Client) -> None:
        room = "/channels/chat%3Alobby"
        assert self.post(client, f"{room}/messages", {"data": 1})[1]["offset"] == 1
        assert client.http.get(room).json_body["offset"] == 1
        assert client.http.get(f"{room}/members").json_body["count"] == 0
        assert client.http.get(f"{room}/history?limit=1&reverse=true").json_body["publications"][0]["data"] == 1
        assert client.http.get(f"{room}/history").status_code == 200
        assert client.http.delete(f"{room}/members/u_456").json_body["connections"] == 0

    def test_a_users_connections_are_listed_and_closed(
        self, client: Client, app: ModuleType, api: FakeWebsocketApi
    ) -> None:
        for device in ("phone", "tablet"):
            event = connect_event(f"{device}=", {"userId": "u_456", "deviceId": device})
            client.lambda_.invoke("websocket_connect", event)
        views = client.http.get("/users/u_456/connections").json_body["connections"]
        assert {view["deviceId"] for view in views} == {"phone", "tablet"}
        answer = client.http.delete("/users/u_456/connections?deviceId=phone&code=bye")
        assert (answer.status_code, answer.json_body) == (200, {"closed": 1, "failed": 0})
        assert api.frames("phone=") == [{"type": "goodbye", "code": "bye", "reason": None}]
        assert client.http.delete("/users/u_456/connections").json_body == {"closed": 1, "failed": 0}
        assert sorted(api.closed) == ["phone=", "tablet="]

    def test_a_ticket_admits_a_client(self, client: Client, app: ModuleType) -> None:
        status, body = self.post(client, "/tickets", {"userId": "u_456"})
        assert status == 201
        event = connect_event(ID, {"ticket": body["ticket"]})
        assert client.lambda_.invoke("websocket_connect", event).payload == {"statusCode": 200}
        assert app.peal.connection(ID).user_id == "u_456"

    def test_a_broadcast_needs_no_body(self, client: Client) -> None:
        assert client.http.post("/broadcast").json_body == {"sent": 0, "gone": 0, "failed": 0}

    def test_a_bad_request_is_400_with_a_message(self, client: Client) -> None:
        status, body = self.post(client, "/users/u_456/messages", {"text": 7})
        assert (status, body["error"]["message"]) == (400, "text must be a string.")

    def test_every_route_is_described_and_protected_by_iam_on_aws(self, app: ModuleType) -> None:
        # A path parameter is connection_id in Python and connectionId in the document.
        entries = {
            (method, re.sub(r"_(\w)", lambda found: found[1].upper(), path)): entry
            for path, methods in app.app.routes.items()
            for method, entry in methods.items()
        }
        assert {place: entry.view_function.__name__ for place, entry in entries.items()} == {
            place: route.door for place, route in ROUTES.items()
        }
        assert {type(entry.authorizer).__name__ for entry in entries.values()} == {"IAMAuthorizer"}

    def post(self, client: Client, path: str, body: Any) -> tuple[int, Any]:
        answer = client.http.post(path, body=json.dumps(body), headers={"Content-Type": "application/json"})
        return answer.status_code, answer.json_body


def test_another_lambda_of_the_project_pushes_with_the_same_verbs(
    app: ModuleType, client: Client, api: FakeWebsocketApi
) -> None:
    @app.app.schedule("rate(1 minute)")
    def tick(event: Any) -> None:
        app.peal.broadcast(note="tick")

    client.lambda_.invoke("websocket_connect", connect_event(ID))
    client.lambda_.invoke("tick", client.events.generate_cw_event("aws.events", "Scheduled Event", {}, []))
    assert api.frames(ID)[0]["note"] == "tick"


def test_without_a_table_the_app_does_not_start_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONNECTIONS_TABLE", raising=False)
    sys.modules.pop("app", None)
    with pytest.raises(ConfigurationError, match="^CONNECTIONS_TABLE must name the DynamoDB table"):
        importlib.import_module("app")
