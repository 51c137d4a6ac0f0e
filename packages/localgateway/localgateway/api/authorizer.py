"""The Lambda authorizer of $connect: whether it is asked, and what its answer means.

Pure. The authorizer runs once for each handshake, never cached, and what it returns about a client is in every later
event. Source: "Control access to WebSocket APIs with AWS Lambda REQUEST authorizers" of the API Gateway developer
guide; where that says nothing, the rules for authorizers of REST APIs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl

from localgateway.contract.invoke import Result
from localgateway.contract.project import Function
from localgateway.errors import ProjectError
from localgateway.wire.http import Request

SOURCE = re.compile(r"route\.request\.(header|querystring)\.(.+)")
# What a statement may contain; a condition, for example, would have to be evaluated.
STATEMENT_KEYS = frozenset({"Sid", "Effect", "Action", "Resource"})


@dataclass(frozen=True, slots=True)
class IdentitySource:
    """A header or a query parameter that a handshake must have."""

    place: Literal["header", "querystring"]
    name: str

    def is_in(self, request: Request) -> bool:
        if self.place == "header":
            return bool(request.header(self.name.lower()))
        return bool(dict(parse_qsl(request.query)).get(self.name))


@dataclass(frozen=True, slots=True)
class Authorizer:
    """A function that runs before $connect."""

    function: Function
    identity_sources: tuple[IdentitySource, ...] = ()

    def can_be_asked_about(self, request: Request) -> bool:
        """Tell whether a handshake has every identity source; if not, it is refused with 401."""
        return all(source.is_in(request) for source in self.identity_sources)


def parse_source(expression: str) -> IdentitySource:
    """Read `route.request.header.NAME` or `route.request.querystring.NAME`.

    Raises:
        ProjectError: if it is neither.
    """
    match = SOURCE.fullmatch(expression)
    if match is None:
        raise ProjectError(
            f"{expression} is not an identity source that this gateway knows: route.request.header.NAME and "
            "route.request.querystring.NAME."
        )
    return IdentitySource("header" if match[1] == "header" else "querystring", match[2])


def judge(result: Result, arn: str, max_bytes: int) -> tuple[HTTPStatus, Mapping[str, str]]:
    """Return 200 and what later events say about the client, or the status of the refused handshake.

    Args:
        result: of the authorizer's invocation.
        arn: what it was asked about.
        max_bytes: how long its answer may be.
    """
    if result.outcome != "ok":
        says = result.payload.get("errorMessage") if isinstance(result.payload, dict) else None
        return (HTTPStatus.UNAUTHORIZED if says == "Unauthorized" else HTTPStatus.INTERNAL_SERVER_ERROR), {}
    try:
        is_allowed, carried = read_answer(result.payload, arn)
    except (KeyError, TypeError, ValueError, AttributeError):
        return HTTPStatus.INTERNAL_SERVER_ERROR, {}
    if len(json.dumps(result.payload)) > max_bytes:
        return HTTPStatus.INTERNAL_SERVER_ERROR, {}
    return (HTTPStatus.OK, carried) if is_allowed else (HTTPStatus.FORBIDDEN, {})


def read_answer(answer: Any, arn: str) -> tuple[bool, Mapping[str, str]]:
    statements = answer["policyDocument"]["Statement"]
    context = {name: to_text(value) for name, value in (answer.get("context") or {}).items()}
    principal = answer["principalId"]
    if not isinstance(principal, str):
        raise TypeError(principal)
    return allows(statements, arn), {"principalId": principal, **context}


def allows(statements: Any, arn: str) -> bool:
    """Tell whether a policy lets `arn` be invoked: some statement allows it and none denies it.

    Raises:
        ValueError: if a statement has more than an effect, actions and resources.
    """
    effects = set()
    for statement in statements if isinstance(statements, list) else [statements]:
        if not statement.keys() <= STATEMENT_KEYS:
            raise ValueError(statement)
        if matches(statement["Action"], "execute-api:Invoke", re.I) and matches(statement["Resource"], arn):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


def matches(patterns: str | list[str], value: str, flags: int = 0) -> bool:
    """Compare a value with IAM's patterns, in which `*` stands for any characters and `?` for one."""
    return any(
        re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value, flags)
        for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    )


def to_text(value: object) -> str:
    """Write a value of the context as later events have it: all of them are strings there.

    Raises:
        TypeError: if it is an object, a list or null, none of which an authorizer may return.
    """
    match value:
        case str():
            return value
        case bool() | int() | float():
            return json.dumps(value)
    raise TypeError(value)
