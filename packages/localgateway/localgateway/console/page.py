"""The console's files, served as they are: no build step, nothing from the network.

The page shows hostile input: frames that anybody may have sent. So it never turns text into HTML, its policy makes the
browser enforce that, and scripts and styles come from these files alone.
"""

from http import HTTPStatus
from pathlib import Path

from localgateway.wire.admission import is_of_this_machine
from localgateway.wire.http import Request, Response

PATH = "/_console"
STATIC = Path(__file__).with_name("static")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    # The gateway, and any WebSocket API whose URL the user enters.
    "connect-src": "'self' ws: wss:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
HEADERS = [
    ("Content-Security-Policy", "; ".join(f"{name} {value}" for name, value in POLICY.items())),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),
]
REFUSAL = (
    "The console is for this machine, at the gateway's own address: http://127.0.0.1:PORT/_console, typed or pasted."
)


def is_for(path: str) -> bool:
    """Tell whether a path is the console's."""
    return path == PATH or path.startswith(f"{PATH}/")


def serve(request: Request, source_ip: str) -> Response:
    """Answer with one of the files; refuse other machines, and pages of other sites."""
    if not is_of_this_machine(request, source_ip):
        return say(HTTPStatus.FORBIDDEN, REFUSAL)
    if request.method not in ("GET", "HEAD"):
        return say(HTTPStatus.METHOD_NOT_ALLOWED, "Use GET.", ("Allow", "GET, HEAD"))
    name = request.path.removeprefix(PATH).removeprefix("/") or "index.html"
    # Only of files that exist there, so that no name leads elsewhere.
    file = next((file for file in STATIC.iterdir() if file.name == name and file.suffix in TYPES), None)
    if file is None:
        return say(HTTPStatus.NOT_FOUND, f"The console is at {PATH}.")
    content_type = f"{TYPES[file.suffix]}; charset=utf-8"
    return Response(HTTPStatus.OK, [("Content-Type", content_type), *HEADERS], file.read_bytes())


def say(status: HTTPStatus, sentence: str, *headers: tuple[str, str]) -> Response:
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status, [content_type, *HEADERS, *headers], f"{sentence}\n".encode())
