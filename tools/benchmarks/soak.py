"""Run clients, publishers and faults against Peal on the local gateway for a while, and audit the outcome.

    python tools/benchmarks/soak.py [--seconds 60] [--clients 20] [--seed 1]

Clients follow one channel with history, are disconnected at random, reconnect and recover; publishers repeat failures
under the same messageId; meanwhile faults strike: 429, false 410, lost $disconnect, slow POSTs, functions that die.
Then the faults stop, the reaper runs, and gateway, table and clients must agree: each client has what was published,
once and in order, or received `recovered: false`; what was acknowledged is in the history once; the table has the
connections that the gateway has. It ends with status 1 if they do not.

The fault "a POST is answered 200 and nothing is sent" is left out: nothing can notice it, and no promise covers it.
"""

import argparse
import json
import logging
import random
import sys
import threading
import time
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from localgateway.faults import Fault
from localgateway.testing import Gateway

CHANNEL = "chat:soak"
# Enough for a dead holder's lease, the job that waits for it, a retry of that job, and a busy machine.
PATIENCE_SECONDS = 90
FALSE_GONE_SECONDS = 5


class Follower:
    """A client that follows the channel as README's does, and records what it receives."""

    def __init__(self, name: str, url: str, chance: random.Random, counts: Counter[str]) -> None:
        self.url = f"{url}?userId={name}"
        self.name, self.chance, self.counts = name, chance, counts
        self.position: dict[str, Any] | None = None
        self.is_calm, self.is_over = threading.Event(), threading.Event()
        self.faults: list[str] = []
        self.has_reply = False
        self.thread = threading.Thread(target=self.follow, daemon=True)

    def follow(self) -> None:
        while not self.is_over.is_set():
            try:
                with connect(self.url, open_timeout=30) as socket:
                    self.counts["connects"] += 1
                    self.stay(socket)
            except (OSError, ConnectionClosed, InvalidStatus):
                time.sleep(self.chance.uniform(0.05, 0.5))

    def stay(self, socket: Any) -> None:
        missed: list[dict[str, Any]] = []
        until = time.monotonic() + self.chance.expovariate(1 / 8)
        self.has_reply = False
        socket.send(json.dumps({"action": "subscribe", "id": 1, "channel": CHANNEL, "recover": self.position}))
        while not self.is_over.is_set():
            if not self.is_calm.is_set() and time.monotonic() > until:
                self.counts["cuts"] += 1
                socket.socket.close()
                return
            try:
                frame = json.loads(socket.recv(timeout=0.2))
            except TimeoutError:
                continue
            self.take(frame, missed, socket)

    def take(self, frame: dict[str, Any], missed: list[dict[str, Any]], socket: Any) -> None:
        match frame.get("type"):
            case "publication":
                self.next([frame])
            case "recovery":
                missed += frame["publications"]
            case "reply":
                self.has_reply = True
                data = frame["data"]
                if data.get("recovered"):
                    self.counts["recoveries"] += 1
                    self.next([*missed, *data["publications"]])
                    self.see(self.position is not None and self.position["offset"] >= data["offset"], "recovered less")
                else:
                    self.counts["afresh"] += self.position is not None
                    self.position = {"epoch": data["epoch"], "offset": data["offset"]}
            case "error" | None:
                # Without a type the frame is API Gateway's own: the function died or was too slow. Subscribe again.
                self.counts["errors"] += 1
                socket.close()

    def next(self, publications: list[dict[str, Any]]) -> None:
        for publication in publications:
            assert self.position is not None, "a publication before the reply"
            offset, last = publication["offset"], self.position["offset"]
            if offset <= last:
                self.counts["repeats"] += 1
            else:
                # An unused offset is neither a publication nor a gap: the audit knows them.
                self.counts["received"] += 1
                self.faults += [f"{self.name}: {offset} after {last}"] if offset > last + 1 else []
                self.position["offset"] = offset

    def see(self, holds: bool, fault: str) -> None:
        self.faults += [] if holds else [f"{self.name}: {fault}"]


def publish(gateway: Gateway, name: str, over: threading.Event, done: list[str], counts: Counter[str]) -> None:
    """Publish until the end, and repeat each message until it is acknowledged."""
    number = 0
    while not over.is_set():
        message_id = f"{name}-{number}"
        while not is_published(gateway, message_id):
            counts["publish again"] += 1
            time.sleep(0.1)
        done.append(message_id)
        number += 1
        time.sleep(0.05)


def is_published(gateway: Gateway, message_id: str) -> bool:
    try:
        body = {"data": message_id, "messageId": message_id}
        return gateway.call("POST", f"/channels/{CHANNEL}/messages", body).status == 200
    except (OSError, HTTPException):
        # There was no answer in time.
        return False


def strike(gateway: Gateway, chance: random.Random, counts: Counter[str], struck: dict[str, float]) -> None:
    """Arm one fault at random, of a kind that is not armed already."""
    choices = (
        Fault("throttle", times=chance.choice((1, 20))),
        Fault("false-gone", times=chance.choice((1, 2))),
        Fault("lose-disconnect", times=1),
        Fault("delay-post", times=3, seconds=0.5),
        Fault("kill-worker", chance.choice(("jobs", "websocket_message", "api_handler")), times=1),
    )
    fault = chance.choice(choices)
    # Two false 410s for a connection in a row, which closing it survives; a third soon after it would not.
    is_soon = fault.name == "false-gone" and time.monotonic() < struck.get(fault.name, 0) + FALSE_GONE_SECONDS
    if not is_soon and fault.name not in {armed.name for armed in gateway.faults.armed}:
        struck[fault.name] = time.monotonic()
        counts[fault.name] += 1
        gateway.faults.arm(fault)


def history(gateway: Gateway) -> list[dict[str, Any]]:
    """Return all that the channel keeps."""
    kept: list[dict[str, Any]] = []
    query = ""
    while True:
        page = gateway.call("GET", f"/channels/{CHANNEL}/history?limit=100{query}").body
        kept += page["publications"]
        if not page["publications"]:
            return kept
        query = f"&epoch={page['epoch']}&offset={kept[-1]['offset']}"


def audit(gateway: Gateway, followers: list[Follower], acknowledged: list[str]) -> list[str]:
    """Return a sentence for every promise that is broken."""
    kept = history(gateway)
    offsets = {one["offset"] for one in kept}
    wrong = [fault for follower in followers for fault in follower.faults if not _is_hole(fault, offsets)]
    named = Counter(one["data"] for one in kept)
    wrong += [
        f"{message_id} is in the history {named[message_id]} times"
        for message_id in acknowledged
        if named[message_id] != 1
    ]
    last = gateway.call("GET", f"/channels/{CHANNEL}").body["offset"]
    wrong += [
        f"{one.name} stands at {one.position}, not {last}" + ("" if one.has_reply else ", and waits for a reply")
        for one in followers
        if (one.position or {}).get("offset") != last
    ]
    registered = {one["connectionId"] for one in gateway.call("GET", "/connections?limit=1000").body["connections"]}
    if len(registered) != len(followers):
        wrong.append(f"{len(registered)} connections are registered, of {len(followers)}")
    return wrong


def _is_hole(fault: str, offsets: set[int]) -> bool:
    *_, offset, _, last = fault.rpartition(": ")[2].split(" ") if " after " in fault else ("", "0", "", "0")
    return " after " in fault and not offsets & set(range(int(last) + 1, int(offset)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long faults strike (60)")
    parser.add_argument("--clients", type=int, default=20, help="how many clients follow (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    options = parser.parse_args()
    # Faults make invocations fail on purpose; the audit reports what must not fail.
    logging.disable(logging.ERROR)
    chance, counts = random.Random(options.seed), Counter[str]()
    acknowledged: list[str] = []
    over, struck = threading.Event(), dict[str, float]()
    with Gateway(Path(__file__).parents[2], environment={"LOG_LEVEL": "ERROR"}) as gateway:
        followers = [
            Follower(f"u_{n}", gateway.url, random.Random(chance.random()), counts) for n in range(options.clients)
        ]
        publishers = [
            threading.Thread(target=publish, args=(gateway, f"p{n}", over, acknowledged, counts)) for n in range(2)
        ]
        for follower in followers:
            follower.thread.start()
        for publisher in publishers:
            publisher.start()
        ends_at = time.monotonic() + options.seconds
        while time.monotonic() < ends_at:
            strike(gateway, chance, counts, struck)
            time.sleep(chance.uniform(0.1, 1))
        gateway.faults.clear()
        over.set()
        for publisher in publishers:
            publisher.join()
        for follower in followers:
            follower.is_calm.set()
        patient_until = time.monotonic() + PATIENCE_SECONDS
        while True:
            gateway.app.peal.reap()
            wrong = audit(gateway, followers, acknowledged)
            if not wrong or time.monotonic() > patient_until:
                break
            time.sleep(2)
        for follower in followers:
            follower.is_over.set()
        for follower in followers:
            follower.thread.join()
    print(f"{len(acknowledged)} publications were acknowledged; {dict(sorted(counts.items()))}")
    for fault in wrong[:20]:
        print(fault)
    print(f"{len(wrong)} faults")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
