"""What the handlers find around them: variables, region, credentials, the Lambda context."""

import os

import pytest

from gatewaykit import ECHO, write_project
from localgateway import LocalGateway
from localgateway.errors import ResourceError


class TestTheEnvironmentOfHandlers:
    def test_it_is_the_stages_with_overrides_on_top(self, serve):
        config = {
            "environment_variables": {"TOP": "top", "BOTH": "top"},
            "stages": {"local": {"environment_variables": {"BOTH": "stage", "STAGE": "stage", "OVER": "stage"}}},
        }
        probe = serve(
            """
            AT_IMPORT = dict(os.environ)

            @app.on_ws_connect()
            def connect(event):
                events.put({**os.environ})
            """,
            config=config,
            environment={"OVER": "given"},
        )
        probe.joins()
        seen = probe.event()
        for environment in (seen, probe.app.AT_IMPORT, probe.gateway.environment):
            picked = {name: environment[name] for name in ("TOP", "BOTH", "STAGE", "OVER")}
            assert picked == {"TOP": "top", "BOTH": "stage", "STAGE": "stage", "OVER": "given"}
        assert seen["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")

    @pytest.mark.usefixtures("own_engine")
    def test_what_the_machine_has_is_kept(self, serve, monkeypatch):
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
        probe = serve(ECHO)
        kept = {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-3"}
        assert {**probe.gateway.environment, "AWS_ENDPOINT_URL_LAMBDA": ""} == kept | {"AWS_ENDPOINT_URL_LAMBDA": ""}

    def test_a_missing_profile_is_reported_in_one_sentence(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(ResourceError, match=r"The AWS settings of this machine cannot be used: .*nobody"):
            LocalGateway(write_project(tmp_path / "p", ECHO)).start()

    def test_the_context_is_that_of_the_deployed_function(self, serve):
        probe = serve(
            """
            @app.on_ws_connect(name="websocket_connect")
            def connect(event):
                context = event.context
                events.put([context.function_name, context.memory_limit_in_mb, context.get_remaining_time_in_millis()])
            """,
            config={"app_name": "peal", "lambda_timeout": 7, "lambda_memory_size": 256},
        )
        probe.joins()
        name, memory, remaining_ms = probe.app.events.get(timeout=10)
        assert (name, memory) == ("peal-local-websocket_connect", 256)
        assert 6_000 < remaining_ms <= 7_000

    def test_a_project_that_attaches_itself_is_not_attached_twice(self, serve):
        probe = serve(
            """
            import localgateway
            localgateway.attach()
            """,
            config={"environment_variables": {"LOCAL_GATEWAY_PORT": "1"}},
        )
        assert "LOCAL_GATEWAY_PORT" not in os.environ
        assert "LOCAL_GATEWAY_PORT" not in probe.gateway.environment
