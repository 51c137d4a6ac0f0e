"""Keys and tokens for tests, made with PyJWT itself, and a place that serves public keys as JWKS does."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

NOW = 1_795_426_210
OLD, NEW = "the-older-secret-of-all-our-tests", "the-newer-secret-of-all-our-tests"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def claims(**overrides: Any) -> dict[str, Any]:
    """What u_123's token says, for the next hour of the tests' clock; None leaves a claim out."""
    said = {"sub": "u_123", "exp": NOW + 3_600} | overrides
    return {name: value for name, value in said.items() if value is not None}


def token(key: Any = NEW, algorithm: str = "HS256", headers: Mapping[str, Any] | None = None, **overrides: Any) -> str:
    """A token of `claims(**overrides)`."""
    return jwt.encode(claims(**overrides), key, algorithm, dict(headers or {}))


def public(key: Any, key_id: str, **more: Any) -> dict[str, Any]:
    """The public half of a key, as an entry of a JSON Web Key Set."""
    algorithm: Any = jwt.algorithms.ECAlgorithm if hasattr(key, "curve") else jwt.algorithms.RSAAlgorithm
    return algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": key_id} | more


class KeyServer:
    """Answers every GET with `keys`, or with `status`, `headers` and `body` where a test sets them."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[Any] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.fetches = 0


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """A KeyServer on a free port of this machine."""
    served = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.fetches += 1
            body = json.dumps({"keys": served.keys}).encode() if served.body is None else served.body
            self.send_response(served.status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield served
        server.shutdown()
