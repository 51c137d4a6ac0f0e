"""Every member sees one order, however many publish and subscribe at once.

After the offset of its reply, a subscriber gets every publication in the order of the offsets, and none twice unless
a Lambda died while delivering.
"""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.handlers import jobs as worker
from chalicelib.protocol.namespaces import Namespace
from tests.support.clients import Client
from tests.support.fakes import FakeJobs, FakeWebsocketApi
from tests.support.lambdas import CHANNEL, ROOM, SHARDED, Build

pytestmark = pytest.mark.slow


class TestManyAtOnce:
    def test_fifty_publishers_and_joining_members_see_one_order(
        self, build: Build, api: FakeWebsocketApi, ticking: Callable[[], float]
    ) -> None:
        lambdas = [build(ticking, publication_seconds=5) for _ in range(4)]
        members = [Client(lambdas[n % 4], api, f"m{n}=", userId=f"u_{n}") for n in range(8)]
        for member in members[:4]:
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        def publish(n: int) -> None:
            for k in range(3):
                lambdas[n % 4].publish(CHANNEL, [n, k])

        def join(member: Client, delay_seconds: float) -> None:
            time.sleep(delay_seconds)
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        with ThreadPoolExecutor(54) as threads:
            work = [threads.submit(publish, n) for n in range(50)]
            work += [threads.submit(join, member, 0.2 * n) for n, member in enumerate(members[4:])]
            for done in work:
                done.result()
        for member in members:
            reply, *pushes = api.frames(member.id)
            assert reply["type"] == "reply"
            got = [push["offset"] for push in pushes]
            assert got == list(range(reply["data"]["offset"] + 1, 151))
            # The publications of one publisher arrive in the order in which it published them.
            seen: dict[int, int] = {}
            for n, k in (push["data"] for push in pushes):
                assert k > seen.get(n, -1)
                seen[n] = k

    def test_workers_with_repeated_jobs_keep_one_order(
        self, build: Build, api: FakeWebsocketApi, jobs: FakeJobs, ticking: Callable[[], float]
    ) -> None:
        lambdas = [build(ticking, SHARDED) for _ in range(3)]
        members = [Client(lambdas[0], api, f"m{n}=", userId=f"u_{n}") for n in range(12)]
        for member in members:
            member.sends({"action": "subscribe", "id": 1, "channel": CHANNEL})

        def publish(n: int) -> None:
            for k in range(3):
                assert lambdas[n % 3].publish(CHANNEL, [n, k]).outcome is None

        def work(n: int) -> None:
            while not published.is_set() or jobs.put_jobs:
                for job in jobs.take():
                    # Delivered twice, as SQS may.
                    for _ in range(2):
                        worker.work(lambdas[n], {"Records": [{"body": json.dumps(job)}]})
                time.sleep(0.01)

        published = threading.Event()
        with ThreadPoolExecutor(13) as threads:
            workers = [threads.submit(work, n) for n in range(3)]
            for done in [threads.submit(publish, n) for n in range(10)]:
                done.result()
            published.set()
            for done in workers:
                done.result()
        for member in members:
            reply, *pushes = api.frames(member.id)
            assert (reply["data"]["offset"], [push["offset"] for push in pushes]) == (0, list(range(1, 31)))

    def test_no_publication_after_the_reply_is_missed(
        self, build: Build, api: FakeWebsocketApi, ticking: Callable[[], float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Publish right after the reply in channels without history."""
        namespaces = ROOM | {"live": Namespace()}
        publisher, peal = build(ticking, namespaces), build(ticking, namespaces)
        for n in range(40):
            channel = f"live:{n}"
            member = Client(peal, api, f"m{n}=", userId="u")
            told = threading.Event()

            def publish_once_told(channel: str = channel, told: threading.Event = told) -> None:
                told.wait(10)
                publisher.publish(channel, "now")

            def send(connection_id: str, text: str, told: threading.Event = told) -> None:
                FakeWebsocketApi.send(api, connection_id, text)
                if '"reply"' in text:
                    told.set()

            monkeypatch.setattr(api, "send", send)
            racer = threading.Thread(target=publish_once_told)
            racer.start()
            member.sends({"action": "subscribe", "id": 1, "channel": channel})
            racer.join()
            assert member.receives_in(channel) == ["now"]
