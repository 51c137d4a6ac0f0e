"""The REST API of a stage, as docs/openapi.json describes it.

Invariant: an answer is a JSON object or nothing; anything else becomes a CommandError.
"""

import json
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from pealctl.deploy.stage import LOCAL
from pealctl.errors import CommandError, NotFound, Unavailable
from pealctl.target import Target, is_loopback

# API Gateway answers within 29 s.
ANSWER_SECONDS: Final = 35
# Seconds to wait before each further try of a request that only reads.
PAUSES_SECONDS: Final = (0.3, 1.0)
# The longest pause between two tries of `tail`.
MAX_PAUSE_SECONDS: Final = 20.0

Json = dict[str, Any]


class Answer(Json):
    """An object of an answer, in which a missing member is a CommandError: the stage runs another version."""

    def __missing__(self, name: str) -> Any:
        raise CommandError(f"The stage's answer has no {name!r}: it runs a different version from this command.")


class Api:
    """The routes of a stage.

    Args:
        target: the stage.
        sleep: waits that many seconds.
    """

    def __init__(self, target: Target, sleep: Callable[[float], None] = time.sleep) -> None:
        self.target = target
        self._sleep = sleep
        # Nothing on this machine is behind a proxy.
        self._opener = build_opener(*([ProxyHandler({})] if is_loopback(target.url) else []))

    def get(self, *path: str, **query: str | int | None) -> Json:
        """Read a resource, with two more tries if there is no answer.

        Args:
            path: its segments, unescaped.
            query: parameters; None leaves one out.

        Returns:
            The answer's object, or an empty one.

        Raises:
            NotFound: the stage has no such resource.
            Unavailable: no try was answered.
            CommandError: the stage refused.
        """
        for pause_seconds in PAUSES_SECONDS:
            try:
                return self._call("GET", path, query) or {}
            except Unavailable:
                self._sleep(pause_seconds)
        return self._call("GET", path, query) or {}

    def post(self, *path: str, body: Json) -> Json:
        """Post `body` and return the answer.

        Raises:
            NotFound: the stage has no such resource.
            Unavailable: there was no answer; the stage may have done it nevertheless.
            CommandError: the stage refused.
        """
        return self._call("POST", path, {}, body) or {}

    def delete(self, *path: str, **query: str | None) -> Json | None:
        """Delete a resource and return the answer, None if it is empty.

        Raises:
            NotFound: the stage has no such resource.
            Unavailable: there was no answer; the stage may have done it nevertheless.
            CommandError: the stage refused.
        """
        return self._call("DELETE", path, query)

    def _call(
        self, method: str, path: tuple[str, ...], query: Mapping[str, str | int | None], body: Json | None = None
    ) -> Json | None:
        route = "/" + "/".join(quote(segment, safe="") for segment in path)
        given = {name: value for name, value in query.items() if value is not None}
        url = self.target.url + route + (f"?{urlencode(given, quote_via=quote)}" if given else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = Request(url, data, self._signed(method, url, data, headers), method=method)
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as response:
                status, text = response.status, response.read()
        except HTTPError as refusal:
            with refusal:
                raise self._refusal(f"{method} {route}", refusal.code, refusal.read()) from None
        except (OSError, HTTPException) as error:
            raise Unavailable(self._silence(error)) from None
        answer = None if status == 204 else _object(text)
        if status != 204 and answer is None:
            raise CommandError(f"What answers at {self.target.url} is not Peal's REST API: is the URL right?")
        return answer

    def _signed(self, method: str, url: str, data: bytes | None, headers: dict[str, str]) -> dict[str, str]:
        if self.target.signer is None:
            return headers
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        signed = AWSRequest(method, url, data=data, headers=headers)
        # Signed anew each time: a role's credentials expire while `tail` runs.
        SigV4Auth(self.target.signer.credentials, "execute-api", self.target.signer.region).add_auth(signed)
        return dict(signed.headers)

    def _silence(self, error: Exception) -> str:
        reason = getattr(error, "reason", None) or error
        if self.target.name == LOCAL:
            return (
                f"Nothing answers at {self.target.url} ({reason}): start it with `make dev`, pass its --url, "
                "or name a --stage on AWS."
            )
        return f"{self.target.url} does not answer ({reason}): try again."

    def _refusal(self, request: str, status: int, text: bytes) -> CommandError:
        answer = _object(text) or {}
        error = answer.get("error")
        message = str(error.get("message") if isinstance(error, dict) else answer.get("message") or "")
        if isinstance(error, dict) and status == 404:
            return NotFound(message)
        if isinstance(error, dict) and status < 500:
            return CommandError(message)
        if status == 504:
            return Unavailable(
                f"{request} was not answered within API Gateway's 29 s. It may still be running, and succeed."
            )
        if status == 429:
            return Unavailable(f"{request} was refused for now (429): too many requests. Try again.")
        if status >= 500:
            logs = "the output of `make dev`" if self.target.name == LOCAL else "docs/OPERATIONS.md, Questions"
            return Unavailable(f"{request} failed on the stage's side ({status}): see {logs}. Try again.")
        if status in (401, 403):
            hint = (
                "The stage may be older than this command: deploy it again."
                if message == "Missing Authentication Token"
                else "You need execute-api:Invoke for it: docs/OPERATIONS.md, Command line."
            )
            return CommandError(f"{request} is refused ({status}): {message.rstrip('.')}. {hint}")
        return CommandError(f"{request} is answered {status}: {message or 'not by Peal, is the URL right?'}")


def pause_seconds(failures: int) -> float:
    """Return the pause after that many failures in a row: 1, 2, 4 ... 20 seconds."""
    return min(2.0 ** min(failures, 5), MAX_PAUSE_SECONDS)


def _object(text: bytes) -> Json | None:
    try:
        value = json.loads(text, object_hook=Answer)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
