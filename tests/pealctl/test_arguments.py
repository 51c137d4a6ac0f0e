"""A wrong command line is refused before anything is asked or sent."""

import pytest

from pealctl.arguments import parse
from tests.pealctl.conftest import say


class TestWrong:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ([], "the following arguments are required: COMMAND"),
            (["send", "hi"], "one of the arguments --user --connection --channel --everyone is required"),
            (["send", "--user", "u", "--everyone", "hi"], "argument --everyone: not allowed with argument --user"),
            (["send", "--user", "u"], "nothing to send: give TEXT, --data JSON, or - to read it from standard input"),
            (["send", "--channel", "c:d"], "a channel takes either TEXT or --data JSON"),
            (["send", "--channel", "c:d", "hi", "--data", "1"], "a channel takes either TEXT or --data JSON"),
            (["send", "--user", "u", "hi", "--message-id", "m"], "--message-id needs a --channel"),
            (["send", "--user", "u", "-", "--data", "-"], "TEXT and --data cannot both be read from standard input"),
            (["send", "--user", "", "hi"], "argument --user: '' is not a name"),
            (["connection", ".."], "argument ID: '..' is not a name"),
            (["kick", "--connection", "c", "--device", "d"], "--device needs a --user"),
            (["kick"], "one of the arguments --user --connection is required"),
            (["history", "c:d", "-n", "-1"], "argument -n/--last: invalid count value: '-1'"),
            (["history", "c:d", "-n", "1", "--all"], "argument --all: not allowed with argument -n/--last"),
            (["ticket", "u", "--grants", "[]"], "argument --grants: invalid grants value: '[]'"),
            (["deploy", "--stage", "dev", "--confirm", "t"], "unrecognized arguments: --confirm t"),
            (["--json", "deploy"], "--json is not an option of deploy"),
            (["--url", "http://x", "destroy"], "--url is not an option of destroy"),
            (["connections", "--url", "x"], "argument --url: 'x' is not a URL (http or https)"),
            (
                ["connections", "--url", "https://x/?a"],
                "argument --url: 'https://x/?a' is not a URL (http or https)",
            ),
            (
                ["tail", "c:d", "--socket-url", "http://x"],
                "argument --socket-url: 'http://x' is not a URL (ws or wss)",
            ),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_it_ends_with_status_2(self, arguments: list[str], sentence: str) -> None:
        done = say(*arguments)
        assert (done.status, done.out) == (2, "")
        assert done.err.endswith(f"error: {sentence}\n")

    @pytest.mark.parametrize("json", ["secret", "NaN", '{"a":Infinity}', "[1,"])
    def test_data_is_not_repeated(self, json: str) -> None:
        done = say("send", "--user", "u", "--data", json)
        assert (done.status, done.err.splitlines()[-1]) == (2, "pealctl: error: --data is not JSON")

    @pytest.mark.parametrize(("options", "what"), [(["-"], "standard input is not UTF-8"), (["--data", "-"], "--data")])
    def test_standard_input_that_is_not_text(self, options: list[str], what: str) -> None:
        done = say("send", "--user", "u", *options, stdin=b"\xff")
        assert done.status == 2
        assert f"error: {what}" in done.err


class TestRight:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["--stage", "dev", "--json", "members", "chat:lobby"],
            ["members", "chat:lobby", "--stage", "dev", "--json"],
            ["--json", "members", "--stage", "dev", "chat:lobby"],
        ],
        ids=" ".join,
    )
    def test_common_options_may_be_on_either_side(self, arguments: list[str]) -> None:
        options = parse(arguments)
        assert (options.stage, options.json, options.url) == ("dev", True, None)

    def test_defaults_are_the_local_stage_and_no_json(self) -> None:
        options = parse(["connections"])
        assert (options.stage, options.json, options.user) == ("local", False, None)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["connection", "-pNLNqvmJSoNHZQ="],
            ["connection", "-pNLNqvmJSoNHZQ=", "--json"],
            ["--json", "connection", "--", "-pNLNqvmJSoNHZQ="],
        ],
        ids=" ".join,
    )
    def test_an_id_may_begin_with_a_dash(self, arguments: list[str]) -> None:
        assert parse(arguments).id == "-pNLNqvmJSoNHZQ="

    @pytest.mark.parametrize("command", [["kick"], ["send", "hi"]], ids=" ".join)
    def test_an_id_after_an_option_may_begin_with_a_dash(self, command: list[str]) -> None:
        assert parse([*command, "--connection", "-pNLNqvmJSoNHZQ="]).connection == "-pNLNqvmJSoNHZQ="

    def test_null_is_data_too(self) -> None:
        options = parse(["send", "--channel", "chat:lobby", "--data", "null"])
        assert (options.has_data, options.data) == (True, None)
