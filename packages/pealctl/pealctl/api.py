"""The REST API of a stage, as docs/openapi.json describes it: requests out, answers or sentences in.

Invariant: an answer is a JSON object or nothing; whatever else comes back leaves here as a CommandError.
"""

import json
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from pealctl.errors import CommandError, NotFound, Unavailable
from pealctl.target import LOCAL, Target, is_loopback

# API Gateway answers after 29 s at the latest.
ANSWER_SECONDS: Final = 35
# What only reads is asked again, after so many seconds.
PAUSES_SECONDS: Final = (0.3, 1.0)
# Who follows a channel waits so long at most.
MAX_PAUSE_SECONDS: Final = 20.0

Json = dict[str, Any]


class Answer(Json):
    """An object of an answer. What it lacks, another version of the stage would not."""

    def __missing__(self, name: str) -> Any:
        raise CommandError(f"The stage's answer has no {name!r}: it runs another version than this command's.")


class Api:
    """Calls the routes of `target`; `sleep` waits so many seconds."""

    def __init__(self, target: Target, sleep: Callable[[float], None] = time.sleep) -> None:
        self.target = target
        self._sleep = sleep
        # What is on this machine is not behind a proxy.
        self._opener = build_opener(*([ProxyHandler({})] if is_loopback(target.url) else []))

    def get(self, *path: str, **query: str | int | None) -> Json:
        """What the resource is; asked again where nobody answered.

        Args:
            path: its segments, as they are.
            query: parameters; None leaves one out.

        Raises:
            NotFound: it is not there.
            Unavailable: nobody answered, three times.
            CommandError: it was refused.
        """
        for pause_seconds in PAUSES_SECONDS:
            try:
                return self._call("GET", path, query) or {}
            except Unavailable:
                self._sleep(pause_seconds)
        return self._call("GET", path, query) or {}

    def post(self, *path: str, body: Json) -> Json:
        """What came of it. Errors as `get`; after Unavailable it may have been done all the same."""
        return self._call("POST", path, {}, body) or {}

    def delete(self, *path: str, **query: str | None) -> Json | None:
        """What came of it, None where there is nothing to say. Errors as `post`."""
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
        # Every time anew, for credentials of a role run out while a tail goes on.
        SigV4Auth(self.target.signer.credentials, "execute-api", self.target.signer.region).add_auth(signed)
        return dict(signed.headers)

    def _silence(self, error: Exception) -> str:
        reason = getattr(error, "reason", None) or error
        if self.target.name == LOCAL:
            return (
                f"Nobody answers at {self.target.url} ({reason}): start it with `make dev`, say where it is "
                "with --url, or which stage on AWS with --stage."
            )
        return f"{self.target.url} does not answer ({reason}): try again."

    def _refusal(self, request: str, status: int, text: bytes) -> CommandError:
        answer = _object(text) or {}
        error = answer.get("error")
        said = str(error.get("message") if isinstance(error, dict) else answer.get("message") or "")
        if isinstance(error, dict) and status == 404:
            return NotFound(said)
        if isinstance(error, dict) and status < 500:
            return CommandError(said)
        if status == 504:
            return Unavailable(
                f"{request} was not answered within API Gateway's 29 s. It may go on, and be done all the same."
            )
        if status == 429:
            return Unavailable(f"{request} was refused for now (429): too many requests. Try again.")
        if status >= 500:
            logs = "the output of `make dev`" if self.target.name == LOCAL else "docs/OPERATIONS.md, Questions"
            return Unavailable(f"{request} failed on the stage's side ({status}). Why: {logs}. Try again.")
        if status in (401, 403):
            hint = (
                "The stage may be older than this command: deploy it anew."
                if said == "Missing Authentication Token"
                else "You need execute-api:Invoke for it: docs/OPERATIONS.md, Command line."
            )
            return CommandError(f"{request} is refused ({status}): {said.rstrip('.')}. {hint}")
        return CommandError(f"{request} is answered {status}: {said or 'not by Peal, is the URL right?'}")


def pause_seconds(failures: int) -> float:
    """How long somebody waits who has failed so often in a row and will not give up: 1, 2, 4 ... 20 seconds."""
    return min(2.0 ** min(failures, 5), MAX_PAUSE_SECONDS)


def _object(text: bytes) -> Json | None:
    try:
        value = json.loads(text, object_hook=Answer)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
