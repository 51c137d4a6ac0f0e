"""What handlers write: how it is recorded, what is kept of it, and that it still reaches the terminal."""

import io
import sys
import threading
from contextvars import copy_context

import pytest

from gatewaykit import write_project
from localgateway.runtime.output import (
    LINE_CHARS,
    TRANSCRIPT_CHARS,
    Lines,
    Overheard,
    Transcript,
    find_lines,
    heard,
    heard_in_thread,
)
from localgateway.testing import Gateway

WRITING = """
import os, sys

@app.on_ws_message()
def message(event):
    print("out", event.body)
    print("err", file=sys.stderr)
    thread = threading.Thread(target=print, args=("thread",))
    thread.start()
    thread.join()
    if event.body == "raise":
        raise ValueError("no good")
    if event.body == "die":
        os._exit(1)
    if event.body == "hang":
        time.sleep(60)
"""


class TestLines:
    def test_a_line_is_recorded_when_it_ends(self):
        heard_lines = []
        lines = Lines(heard_lines.append)
        lines.write("one\ntw")
        lines.write("o\n\nthr")
        assert heard_lines == ["one", "two", ""]
        lines.end()
        lines.end()
        assert heard_lines == ["one", "two", "", "thr"]

    def test_a_long_line_is_truncated_however_it_comes(self):
        heard_lines = []
        lines = Lines(heard_lines.append)
        for _ in range(3):
            lines.write("x" * LINE_CHARS)
        lines.write("\n")
        lines.write("y" * 3 * LINE_CHARS + "\n")
        assert heard_lines == ["x" * LINE_CHARS + "…", "y" * LINE_CHARS + "…"]


class TestATranscript:
    def test_keeps_the_last_lines_and_says_how_many_came_before(self):
        transcript = Transcript()
        for number in range(TRANSCRIPT_CHARS):
            transcript.add(str(number))
        said, *kept = transcript.to_lines()
        assert kept == [str(number) for number in range(TRANSCRIPT_CHARS - len(kept), TRANSCRIPT_CHARS)]
        assert said == f"({TRANSCRIPT_CHARS - len(kept)} lines before these)"
        assert sum(len(line) + 1 for line in kept) <= TRANSCRIPT_CHARS

    def test_empty_lines_are_bounded_too(self):
        transcript = Transcript()
        for _ in range(2 * TRANSCRIPT_CHARS):
            transcript.add("")
        assert len(transcript.to_lines()) == TRANSCRIPT_CHARS + 1


class TestAStream:
    def test_is_written_to_whether_somebody_listens_or_not(self):
        below, kept = io.StringIO(), []
        stream = Overheard(below, find_lines)
        print("before", file=stream)
        with heard_in_thread(kept.append):
            assert stream.write("mi") == 2
            stream.writelines(["d", "dle"])
        print("after", file=stream, flush=True)
        assert below.getvalue() == "before\nmiddleafter\n"
        assert kept == ["middle"]

    def test_has_the_attributes_of_the_stream_below(self):
        assert Overheard(sys.__stderr__, find_lines).fileno() == sys.__stderr__.fileno()

    def test_each_thread_is_recorded_with_copies_of_its_context(self):
        stream = Overheard(io.StringIO(), find_lines)
        kept = {"a": [], "b": []}
        both = threading.Barrier(2, timeout=30)

        def work(name):
            with heard_in_thread(kept[name].append):
                both.wait()
                print(name, file=stream)
                copy_context().run(print, name * 2, file=stream)
                both.wait()

        threads = [threading.Thread(target=work, args=(name,)) for name in kept]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept == {"a": ["a", "aa"], "b": ["b", "bb"]}

    def test_all_threads_of_a_process_are_recorded(self):
        stream, kept = Overheard(io.StringIO(), find_lines), []
        with heard(kept.append):
            thread = threading.Thread(target=print, args=("elsewhere",), kwargs={"file": stream})
            thread.start()
            thread.join()
        assert kept == ["elsewhere"]


class TestAnInvocation:
    @pytest.fixture
    def gateway(self, tmp_path):
        config = {"stages": {"local": {"lambda_functions": {"websocket_message": {"lambda_timeout": 1}}}}}
        with Gateway(write_project(tmp_path / "project", WRITING, config=config), workers=True) as gateway:
            yield gateway

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("body", "outcome", "status", "error"),
        [
            ("return", "ok", 200, None),
            ("raise", "error", None, "ValueError: no good"),
            ("die", "error", None, "Its process ended before it answered."),
            ("hang", "timeout", None, "Task timed out after 1.00 seconds"),
        ],
    )
    def test_is_remembered_with_what_it_wrote_however_it_ended(self, gateway, body, outcome, status, error):
        alice = gateway.connect("alice")
        alice.sends(body)
        (ran,) = gateway.invocations
        assert (ran.cause, ran.route, ran.connection_id) == ("MESSAGE", "$default", alice.connection_id)
        assert (ran.outcome, ran.status, ran.error) == (outcome, status, error)
        assert ran.lines[:3] == (f"out {body}", "err", "thread")
        assert ('    raise ValueError("no good")' in ran.lines) == (body == "raise")
