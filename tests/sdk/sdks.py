"""The official SDKs in processes of their own, with the words that tests need: subscribes, publishes, sees."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

HERE = Path(__file__).parent
DRIVERS: Mapping[str, Sequence[str]] = {
    "javascript": ["node", "driver.mjs"],
    "python": [sys.executable, "driver.py"],
}
# Longer than anything takes on a machine that does other things too.
SECONDS = 20


class CallFailed(Exception):
    """An SDK's promise was rejected with this code."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class Sdk:
    """One process with one SDK and any number of its clients."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._numbers = count()
        self._results: dict[int, Queue[dict[str, Any]]] = {}
        self._clients: dict[str, SdkClient] = {}
        self._process = subprocess.Popen(
            DRIVERS[name], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        Thread(target=self._read, daemon=True).start()

    def open(self, url: str, **options: Any) -> "SdkClient":
        """A client of the SDK, which connects."""
        name = f"client {next(self._numbers)}"
        client = self._clients[name] = SdkClient(self, name)
        client.call("open", url=url, **options)
        return client

    def close_all(self) -> None:
        """None of the clients comes back any more."""
        for client in self._clients.values():
            client.call("disconnect")
        self._clients.clear()

    def call(self, **call: Any) -> Any:
        """What the call has come to. Raises CallFailed."""
        return self.wait(self.begin(**call))

    def begin(self, **call: Any) -> int:
        """The call is under way; its number is for `wait`."""
        number = next(self._numbers)
        self._results[number] = Queue()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({**call, "number": number}) + "\n")
        return number

    def wait(self, number: int) -> Any:
        """What the call of that number has come to. Raises CallFailed."""
        answer = self._results[number].get(timeout=SECONDS)
        if "error" in answer:
            raise CallFailed(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def stop(self) -> None:
        """The process has ended."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(SECONDS)
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            said = json.loads(line)
            if "number" in said:
                self._results[said["number"]].put(said)
            elif client := self._clients.get(said.pop("client")):
                client.events.put(said)


class SdkClient:
    """One client, as the app that uses it sees it."""

    def __init__(self, sdk: Sdk, name: str) -> None:
        self.sdk, self.name = sdk, name
        self.id = ""
        self.events: Queue[dict[str, Any]] = Queue()
        self.seen: list[dict[str, Any]] = []

    def call(self, call: str, **options: Any) -> Any:
        """What the method of the SDK has come to. Raises CallFailed."""
        return self.sdk.call(call=call, client=self.name, **options)

    def begin(self, call: str, **options: Any) -> int:
        """The method is under way."""
        return self.sdk.begin(call=call, client=self.name, **options)

    def sees(self, event: str, **expected: Any) -> dict[str, Any]:
        """The next event of that name, which must have these members; others before it are passed over."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                found = self.events.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise AssertionError(f"{self.name} saw no {event}: {self.seen}") from None
            self.seen.append(found)
            if found["event"] == event:
                differing = {name: found.get(name) for name in expected if found.get(name) != expected[name]}
                assert not differing, f"{found}, expected {expected}"
                return found

    def sees_published(self, channel: str, *data: Any) -> list[int]:
        """The next publications, in that order; returns their offsets."""
        return [self.sees("publication", channel=channel, data=each)["offset"] for each in data]

    def subscribes(self, channel: str, **expected: Any) -> None:
        """It subscribes to the channel, and is told that it has."""
        self.call("subscribe", channel=channel)
        self.sees("subscribed", channel=channel, **expected)

    def went_through(self, *events: str) -> None:
        """Since it was opened, or asked last, it has seen these events and no other, in that order."""
        names = [event["event"] for event in self.seen]
        assert names == list(events), self.seen
        self.seen.clear()
