"""`tail`, and how commands start and end as processes."""

import json
import os
import pty
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from localgateway.testing import Gateway
from pealctl import history, live
from pealctl.api import MAX_PAUSE_SECONDS, Api, pause_seconds
from pealctl.arguments import DEPLOY, OPERATE
from pealctl.errors import CommandError, Unavailable
from pealctl.target import Target
from tests.conftest import PROJECT
from tests.pealctl.conftest import PROGRAM, SECONDS, Running, environment, run
from tests.support.processes import killed_after

Start = Callable[..., Running]


class Wire:
    """A way to a server, which can be cut and mended."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._there = (address.hostname or "", address.port or 0)
        self._listening: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._port = 0
        self.mend()
        self.url = address._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def mend(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listening.getsockname()[1]
        Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        """End all connections and accept no new one."""
        if self._listening:
            # Closing it alone would not wake the thread that accepts.
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for end in self._ends:
            end.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listening.accept()
                there = socket.create_connection(self._there)
                self._ends += [here, there]
                for source, sink in ((here, there), (there, here)):
                    Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[Wire]:
    """The way to the REST API."""
    assert gateway.rest_url
    with closing(Wire(gateway.rest_url)) as wire:
        yield wire


def publish(gateway: Gateway, channel: str, *messages: Any) -> None:
    for message in messages:
        assert gateway.call("POST", f"/channels/{channel}/messages", {"data": message}).status == 200


def is_in(gateway: Gateway, channel: str, without: str = "") -> str:
    """Wait until a tail is in the channel over a connection other than `without`; return its id."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for one in gateway.call("GET", f"/users/{live.USER}/connections").body["connections"]:
            if channel in one["channels"] and one["connectionId"] != without:
                return str(one["connectionId"])
        time.sleep(0.05)
    raise AssertionError(f"no tail is in {channel}")


class TestWithHistory:
    @pytest.mark.slow
    def test_new_publications_follow_the_last_ones(
        self, gateway: Gateway, stage: tuple[str, ...], start: Start
    ) -> None:
        publish(gateway, "chat:lobby", "a", "b", "c")
        tail = start(*stage, "tail", "chat:lobby", "-n", "2", "--json")
        assert [json.loads(tail.prints())["data"] for _ in range(2)] == ["b", "c"]
        publish(gateway, "chat:lobby", "d", "e")
        assert [json.loads(tail.prints())["offset"] for _ in range(2)] == [4, 5]
        assert tail.is_interrupted() == (0, "", "")

    @pytest.mark.slow
    def test_members_do_not_notice_it(self, gateway: Gateway, stage: tuple[str, ...], start: Start) -> None:
        publish(gateway, "chat:lobby", "a")
        alice = gateway.connect("u_1")
        alice.sends({"action": "subscribe", "id": 1, "channel": "chat:lobby"})
        alice.receives({"type": "reply"})
        start(*stage, "tail", "chat:lobby", "-n", "1").prints()
        alice.receives_nothing()

    @pytest.mark.slow
    def test_nothing_is_lost_while_the_stage_is_unreachable(self, gateway: Gateway, wire: Wire, start: Start) -> None:
        publish(gateway, "chat:lobby", "a")
        tail = start("--url", wire.url, "tail", "chat:lobby", "-n", "1")
        assert tail.prints().endswith('  1  (server)  "a"')
        wire.cut()
        publish(gateway, "chat:lobby", "b", "c")
        assert "Nothing answers at" in (note := tail.notes())
        assert note.endswith("Still trying.")
        wire.mend()
        assert tail.notes() == "The stage answers again."
        assert [tail.prints()[-3:] for _ in range(2)] == ['"b"', '"c"']

    def test_a_new_epoch_is_followed_from_its_start(self, gateway: Gateway) -> None:
        publish(gateway, "chat:lobby", "old")
        notes: list[str] = []
        following = history.follow(to(gateway), "chat:lobby", {"epoch": "another", "offset": 7}, notes.append)
        one = next(following)
        assert (one["data"], one["offset"]) == ("old", 1)
        assert notes == [f"chat:lobby has started again: epoch {one['epoch']}."]

    def test_missing_offsets_are_reported(self, gateway: Gateway, dynamodb: Any) -> None:
        publish(gateway, "chat:lobby", *range(4))
        since, before = history.read_last(to(gateway), "chat:lobby", 4)
        for offset in (2, 3):
            key = {"PK": {"S": f"HIST#chat:lobby#{since['epoch']}"}, "SK": {"S": f"{offset:020}"}}
            dynamodb.delete_item(TableName="peal-local-connections", Key=key)
        notes: list[str] = []
        following = history.follow(to(gateway), "chat:lobby", {"epoch": since["epoch"], "offset": 1}, notes.append)
        assert next(following) == before[3]
        assert notes == ["Offsets 2 to 3 are missing: never used, or no longer kept."]

    def test_an_unreadable_channel_is_an_error(self, gateway: Gateway) -> None:
        following = history.follow(to(gateway), "live:x", {"epoch": "e", "offset": 0}, print)
        with pytest.raises(CommandError, match="^channel is in a namespace without history.$"):
            next(following)


def to(gateway: Gateway) -> Api:
    """Return the gateway's API, without pauses between tries."""
    assert gateway.rest_url
    return Api(Target("local", gateway.rest_url, lambda: gateway.url, None), sleep=lambda _: None)


PUBLICATION = {"type": "publication", "channel": "live:x", "data": 1}


class TestWithoutHistory:
    @pytest.mark.slow
    def test_it_reconnects_as_a_client(self, gateway: Gateway, stage: tuple[str, ...], start: Start) -> None:
        tail = start(*stage, "tail", "live:x")
        first = is_in(gateway, "live:x")
        publish(gateway, "live:x", [1])
        assert tail.prints().endswith("  -  (server)  [1]")
        assert gateway.call("DELETE", f"/connections/{first}").status == 204
        assert tail.notes() == "The connection has ended: reconnecting."
        is_in(gateway, "live:x", without=first)
        assert tail.notes() == "Connected again; what was published meanwhile is lost."
        publish(gateway, "live:x", [2])
        assert tail.prints().endswith("  -  (server)  [2]")
        assert tail.is_interrupted() == (0, "", "")

    def test_it_reconnects_after_a_long_outage(self, gateway: Gateway, wire: Wire) -> None:
        notes: list[str] = []
        target = Target("local", wire.url, lambda: gateway.url, None)

        def sleep(seconds: float) -> None:
            if seconds >= MAX_PAUSE_SECONDS:
                wire.mend()
            time.sleep(0.01)

        following = live.follow(Api(target, sleep=lambda _: None), "live:x", notes.append, sleep)
        wanted: list[Any] = []
        thread = Thread(target=lambda: wanted.extend([next(following), next(following)]), daemon=True)
        thread.start()
        first = is_in(gateway, "live:x")
        publish(gateway, "live:x", 1)
        wire.cut()
        gateway.call("DELETE", f"/connections/{first}")
        is_in(gateway, "live:x", without=first)
        publish(gateway, "live:x", 2)
        thread.join(SECONDS)
        assert [one["data"] for one in wanted] == [1, 2]
        assert [sentence.partition(" ")[0] for sentence in notes] == ["The", "Nothing", "Connected"]
        following.close()

    def test_a_silent_client_pings(self, gateway: Gateway) -> None:
        following = live.follow(to(gateway), "live:x", print, ping_seconds=0.1)
        thread = Thread(target=lambda: next(following), daemon=True)
        thread.start()
        is_in(gateway, "live:x")
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and len(messages(gateway)) < 4:
            time.sleep(0.05)
        publish(gateway, "live:x", "enough")
        thread.join(SECONDS)
        following.close()
        assert len(messages(gateway)) >= 4

    def test_publications_before_the_reply_are_printed_too(self, gateway: Gateway) -> None:
        def answer(connection: ServerConnection) -> None:
            connection.recv(SECONDS)
            for frame in (PUBLICATION, PUBLICATION | {"data": 2}, {"type": "reply", "id": 0, "data": {}}):
                connection.send(json.dumps(frame))
            with suppress(ConnectionClosed):
                connection.recv(SECONDS)

        assert gateway.rest_url
        with serve(answer, "127.0.0.1", 0) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            api = Api(Target("local", gateway.rest_url, lambda: url, None))
            with closing(live.follow(api, "live:x", print)) as following:
                assert [next(following)["data"] for _ in range(2)] == [1, 2]

    def test_a_refused_client_is_an_error(self, gateway: Gateway) -> None:
        assert gateway.rest_url
        elsewhere = Api(Target("local", gateway.rest_url, lambda: gateway.url + "/nowhere", None))
        with pytest.raises(CommandError, match=r"/nowhere refuses to connect \(403\)\.$"):
            next(live.follow(elsewhere, "live:x", print))

    def test_an_unreachable_socket_url_is_an_error(self, gateway: Gateway) -> None:
        assert gateway.rest_url
        elsewhere = Api(Target("local", gateway.rest_url, lambda: "ws://127.0.0.1:9/api", None))
        with pytest.raises(Unavailable, match=r"^ws://127\.0\.0\.1:9/api does not answer \(.*refused.*\)\.$"):
            next(live.follow(elsewhere, "live:x", print))

    def test_an_impossible_channel_is_an_error(self, gateway: Gateway) -> None:
        with pytest.raises(CommandError, match="^channel must be in one of the namespaces"):
            next(live.follow(to(gateway), "nowhere:x", print))


def messages(gateway: Gateway) -> list[Any]:
    return [one for one in gateway.invocations if one.route == "$default"]


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_seconds(failures) for failures in (0, 1, 2, 4, 5, 10_000)] == [1, 2, 4, 16, 20, 20]


@pytest.mark.slow
class TestProcesses:
    def test_a_reader_that_closes_the_pipe_ends_it_quietly(self, gateway: Gateway, stage: tuple[str, ...]) -> None:
        publish(gateway, "chat:lobby", *(str(number) * 9_000 for number in range(9)))
        command = subprocess.Popen(
            [*PROGRAM, *stage, "history", "chat:lobby", "--all"],
            cwd=PROJECT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with command, killed_after(SECONDS, command):
            assert command.stdout
            assert command.stderr
            command.stdout.readline()
            command.stdout.close()
            assert command.stderr.read() == b""
        assert command.returncode == 0

    def test_an_interrupted_command_says_only_that(self, start: Start) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(SECONDS)
            waiting = start("--url", f"http://127.0.0.1:{silent.getsockname()[1]}", "connections")
            with closing(silent.accept()[0]):
                assert waiting.is_interrupted() == (1, "", "Interrupted.\n")

    def test_progress_is_shown_on_a_terminal_and_cleared(self, gateway: Gateway, stage: tuple[str, ...]) -> None:
        publish(gateway, "chat:lobby", 1, 2)
        assert on_terminal(*stage, "history", "chat:lobby", "--all") == (
            "\r1 publications\r2 publications\r              \r"
        )
        assert on_terminal(*stage, "connections") == "\r0 connections\r             \r"

    def test_help_lists_all_commands(self) -> None:
        done = run("--help")
        assert (done.status, done.err) == (0, "")
        for command in (*OPERATE, *DEPLOY):
            assert f"\n    {command} " in done.out


def on_terminal(*arguments: str) -> str:
    """Return what a command writes to a terminal on stderr while its stdout goes elsewhere."""
    screen, terminal = pty.openpty()
    try:
        subprocess.run(
            [*PROGRAM, *arguments],
            cwd=PROJECT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            timeout=SECONDS,
            check=True,
        )
        return os.read(screen, 65_536).decode()
    finally:
        os.close(screen)
        os.close(terminal)
