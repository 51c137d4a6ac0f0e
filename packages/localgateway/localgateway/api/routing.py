"""Which function runs for what: the routes that Chalice makes, and what has been added to them.

Chalice deploys $connect, $default and $disconnect under the expression `$request.body.action`, without an authorizer
and without route responses. What you add by CloudFormation on AWS you name here, to have it locally too.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from localgateway.api.authorizer import Authorizer, parse_source
from localgateway.contract.project import Function, Project
from localgateway.errors import ProjectError


@dataclass(frozen=True, slots=True)
class Additions:
    """What is added to a project's WebSocket API. Functions go by their Chalice names.

    Attributes:
        authorizer: the REQUEST authorizer of $connect. Not an `@app.authorizer`: Chalice's read TOKEN events only.
        identity_sources: what a handshake must have for the authorizer to be asked at all, else it is refused with 401:
            `route.request.querystring.token`, `route.request.header.Cookie`.
        routes: which function a message with this `action` runs.
        route_responses: the routes whose function's body goes back to the client.
    """

    authorizer: str | None = None
    identity_sources: Collection[str] = ()
    routes: Mapping[str, str] = field(default_factory=dict)
    route_responses: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """The routes of an API and what belongs to them."""

    routes: Mapping[str, Function]
    authorizer: Authorizer | None = None
    route_responses: frozenset[str] = frozenset()

    def select(self, text: str) -> str | None:
        """Return the key of the route that a message takes, or None. The message is parsed only if an
        added route could match it.
        """
        if any(is_chosen(key) for key in self.routes):
            key = read_action(text)
            if key in self.routes and is_chosen(key):
                return key
        return "$default" if "$default" in self.routes else None


def route(project: Project, additions: Additions) -> Routing:
    """Return the routes of a project with the additions to them.

    Raises:
        ProjectError: if an addition is about a function or a route that the project does not have.
    """

    def find(name: str) -> Function:
        if name not in project.functions:
            raise ProjectError(f"There is no function {name} in this project: it has {listed(project.functions)}.")
        return project.functions[name]

    routes = {**project.routes, **{key: find(name) for key, name in additions.routes.items()}}
    responsive = routes.keys() - {"$connect", "$disconnect"}
    for key in additions.route_responses:
        if key not in responsive:
            raise ProjectError(f"There is no route {key} that could respond: messages take {listed(responsive)}.")
    authorizer = None
    if additions.identity_sources and additions.authorizer is None:
        raise ProjectError("Identity sources are for an authorizer, and there is none.")
    if additions.authorizer is not None:
        sources = tuple(parse_source(source) for source in additions.identity_sources)
        authorizer = Authorizer(find(additions.authorizer), sources)
    return Routing(routes, authorizer, frozenset(additions.route_responses))


def read_action(text: str) -> str:
    """Evaluate `$request.body.action`: empty for anything but a JSON object with an action.

    Source: "Working with routes for WebSocket APIs" of the API Gateway developer guide. A value that is no string is
    compared as its JSON.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    action = body.get("action") if isinstance(body, dict) else None
    if action is None:
        return ""
    return action if isinstance(action, str) else json.dumps(action)


def is_chosen(key: str) -> bool:
    """Tell whether messages can choose a route; only API Gateway itself chooses those with a `$`."""
    return not key.startswith("$")


def listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
