"""The doors: each Chalice handler hands its raw event on to chalicelib."""

import os
from collections.abc import Callable
from typing import Any

from chalice import Chalice, IAMAuthorizer, Response
from chalice.app import LambdaFunctionEvent

from chalicelib import logs
from chalicelib.handlers import rest, websocket
from chalicelib.handlers.jobs import work
from chalicelib.peal import build
from chalicelib.settings import Settings
from chalicelib.telemetry import Observer

app = Chalice(app_name="peal", configure_logs=False)
app.experimental_feature_flags.update(["WEBSOCKETS"])
# On AWS only callers with execute-api:Invoke reach the REST routes; locally they are open.
iam = IAMAuthorizer()

if "LOCAL_GATEWAY_PORT" in os.environ:  # `chalice local --stage local`; set nowhere else
    import localgateway

    localgateway.attach()

settings = Settings.from_env(os.environ)
logs.configure(settings, own=[app.app_name])
# Every door's invocations end with a line and their metrics, also those of doors that are added below.
app.register_middleware(Observer())

# Two of them send the 10,000 frames a second that an account may; more would be refused (docs/SCALING.md).
JOBS_AT_ONCE = 2

peal = build(settings, app.websocket_api)


@app.on_ws_connect(name="websocket_connect")
def websocket_connect(event: Any) -> Any:
    return websocket.connect(peal, event.to_dict())


@app.on_ws_message(name="websocket_message")
def websocket_message(event: Any) -> Any:
    return websocket.message(peal, event.to_dict())


@app.on_ws_disconnect(name="websocket_disconnect")
def websocket_disconnect(event: Any) -> Any:
    return websocket.disconnect(peal, event.to_dict())


@app.on_sqs_message(queue=os.environ["JOBS_QUEUE"], batch_size=1, name="jobs", maximum_concurrency=JOBS_AT_ONCE)
def jobs(event: Any) -> None:
    work(peal, event.to_dict())


@app.schedule("rate(5 minutes)", name="reaper")
def reaper(event: Any) -> dict[str, int]:
    return peal.reap()


# Chalice's own event class raises KeyError for an event without connectionId, before chalicelib could answer 400.
for handler in (websocket_connect, websocket_message, websocket_disconnect):
    handler.event_class = LambdaFunctionEvent


@app.route("/connections/{connection_id}/messages", methods=["POST"], authorizer=iam)
def post_to_connection(connection_id: str) -> Response:
    return _answer(rest.post_to_connection, connection_id, app.current_request.raw_body)


@app.route("/users/{user_id}/messages", methods=["POST"], authorizer=iam)
def post_to_user(user_id: str) -> Response:
    return _answer(rest.post_to_user, user_id, app.current_request.raw_body)


@app.route("/broadcast", methods=["POST"], authorizer=iam)
def post_broadcast() -> Response:
    return _answer(rest.post_broadcast, app.current_request.raw_body)


@app.route("/tickets", methods=["POST"], authorizer=iam)
def post_ticket() -> Response:
    return _answer(rest.post_ticket, app.current_request.raw_body)


@app.route("/connections", methods=["GET"], authorizer=iam)
def get_roll() -> Response:
    return _answer(rest.get_roll, app.current_request.query_params or {})


@app.route("/connections/{connection_id}", methods=["GET"], authorizer=iam)
def get_connection(connection_id: str) -> Response:
    return _answer(rest.get_connection, connection_id)


@app.route("/connections/{connection_id}", methods=["DELETE"], authorizer=iam)
def delete_connection(connection_id: str) -> Response:
    return _answer(rest.delete_connection, connection_id, app.current_request.query_params or {})


@app.route("/users/{user_id}/connections", methods=["GET"], authorizer=iam)
def get_connections(user_id: str) -> Response:
    return _answer(rest.get_connections, user_id)


@app.route("/users/{user_id}/connections", methods=["DELETE"], authorizer=iam)
def delete_connections(user_id: str) -> Response:
    return _answer(rest.delete_connections, user_id, app.current_request.query_params or {})


@app.route("/channels/{channel}/messages", methods=["POST"], authorizer=iam)
def post_to_channel(channel: str) -> Response:
    return _answer(rest.post_to_channel, channel, app.current_request.raw_body)


@app.route("/channels/{channel}", methods=["GET"], authorizer=iam)
def get_channel(channel: str) -> Response:
    return _answer(rest.get_channel, channel)


@app.route("/channels/{channel}/members", methods=["GET"], authorizer=iam)
def get_members(channel: str) -> Response:
    return _answer(rest.get_members, channel)


@app.route("/channels/{channel}/members/{user_id}", methods=["DELETE"], authorizer=iam)
def delete_member(channel: str, user_id: str) -> Response:
    return _answer(rest.delete_member, channel, user_id)


@app.route("/channels/{channel}/history", methods=["GET"], authorizer=iam)
def get_history(channel: str) -> Response:
    return _answer(rest.get_history, channel, app.current_request.query_params or {})


def _answer(door: Callable[..., rest.Answer], *arguments: Any) -> Response:
    status, body = rest.answer(door, peal, *arguments)
    return Response(body, status_code=status)
