"""Deploying: again, from another clone, after a failure, beside another stage; and destroying."""

import json
import os
import signal

import pytest

from tests.e2e.client import call, connected, ticket
from tests.e2e.conftest import Clone, Deployed, remains
from tests.support.processes import killed_after


@pytest.fixture(scope="module")
def deployed(clone: Clone) -> Deployed:
    return clone.deploys()


def live_deployment(clone: Clone) -> str:
    """Return the deployment that the stage of the only WebSocket API serves."""
    client = clone.account.client("apigatewayv2")
    (api,) = client.get_apis()["Items"]
    stage = client.get_stage(ApiId=api["ApiId"], StageName="api")
    deployments = client.get_deployments(ApiId=api["ApiId"])["Items"]
    assert stage["DeploymentId"] in [deployment["DeploymentId"] for deployment in deployments]
    return str(stage["DeploymentId"])


class TestAgain:
    def test_a_fresh_clone_finds_what_is_deployed(self, clone: Clone, deployed: Deployed) -> None:
        clone.forgets()
        again = clone.deploys()
        assert (again.websocket, again.rest) == (deployed.websocket, deployed.rest)

    def test_records_of_another_account_are_ignored(self, clone: Clone, deployed: Deployed) -> None:
        path = clone.directory / ".chalice" / "deployed" / "dev.json"
        path.write_text(path.read_text().replace(clone.account.number, "999999999999"))
        again = clone.deploys()
        assert (again.websocket, again.rest) == (deployed.websocket, deployed.rest)
        assert "999999999999" not in path.read_text()

    def test_a_changed_route_goes_live_and_sockets_stay_open(self, clone: Clone, deployed: Deployed) -> None:
        """Chalice alone would leave the stage on the first deployment."""
        before = live_deployment(clone)
        clone.replace("app.py", '@app.route("/broadcast"', '@app.route("/everyone"')
        with connected(deployed.websocket, ticket(clone.account, deployed.rest, "u_1")) as client:
            clone.deploys()
            assert client.asks(action="ping") == {}
        assert live_deployment(clone) != before
        assert call(clone.account, f"{deployed.rest}/everyone", "POST", {})[0] == 200


class TestInterrupted:
    """After an interrupted deploy the next one continues, and there is one API of each kind."""

    @pytest.mark.parametrize(
        ("action", "resource"),
        [
            ("cloudformation:CreateStack", "*"),
            ("iam:CreateRole", "arn:aws:iam::*:role/peal-dev-websocket_message"),
            ("apigateway:POST", "arn:aws:apigateway:*::/apis/*/integrations"),
            ("apigateway:POST", "arn:aws:apigateway:*::/apis/*/stages"),
        ],
    )
    def test_by_a_refusal(self, fresh_clone: Clone, action: str, resource: str) -> None:
        fresh_clone.account.deny(action, resource)
        refused = fresh_clone.run("deploy", "--stage", "dev")
        assert refused.returncode == 1
        fresh_clone.account.deny_nothing()
        fresh_clone.deploys()
        assert self.apis(fresh_clone) == (1, 1)

    @pytest.mark.parametrize("line", ["Creating Rest API", "Creating websocket api"])
    def test_by_a_kill(self, fresh_clone: Clone, line: str) -> None:
        process = fresh_clone.start("deploy", "--stage", "dev")
        with process, killed_after(180, process):
            assert process.stdout
            for printed in process.stdout:
                if printed.startswith(line):
                    break
            os.killpg(process.pid, signal.SIGKILL)
        fresh_clone.deploys()
        assert self.apis(fresh_clone) == (1, 1)

    def apis(self, clone: Clone) -> tuple[int, int]:
        """Return how many WebSocket and REST APIs there are."""
        sockets = clone.account.client("apigatewayv2").get_apis()["Items"]
        rest = clone.account.client("apigateway").get_rest_apis()["items"]
        return len(sockets), len(rest)


class TestTwoStages:
    def test_destroying_one_leaves_the_other(self, fresh_clone: Clone) -> None:
        config = fresh_clone.directory / ".chalice" / "config.json"
        stages = json.loads(config.read_text())
        text = json.dumps(stages["stages"]["dev"])
        # A name that begins like the other's is the hardest to tell apart.
        stages["stages"]["dev-two"] = json.loads(text.replace("dev-", "dev-two-"))
        config.write_text(json.dumps(stages))
        assert fresh_clone.run("policies").returncode == 0
        dev, two = fresh_clone.deploys("dev"), fresh_clone.deploys("dev-two")
        assert {dev.websocket, dev.rest} & {two.websocket, two.rest} == set()
        before = remains(fresh_clone.account, "peal-dev-two")
        fresh_clone.forgets()
        gone = fresh_clone.run("destroy", "--stage", "dev", "--confirm", "peal-dev-connections")
        assert gone.returncode == 0, gone.stdout + gone.stderr
        assert remains(fresh_clone.account) == before
        with connected(two.websocket, ticket(fresh_clone.account, two.rest, "u_1")) as client:
            assert client.asks(action="ping") == {}


class TestDestroying:
    def test_nothing_is_left(self, clone: Clone, deployed: Deployed) -> None:
        assert len(remains(clone.account)) >= 5
        clone.forgets()
        for _ in range(2):
            done = clone.run("destroy", "--stage", "dev", "--confirm", "peal-dev-connections")
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.endswith("Nothing of peal-dev is left\n")
            assert remains(clone.account) == {}
            assert clone.account.client("apigateway").get_rest_apis()["items"] == []

    def test_the_table_must_be_named(self, fresh_clone: Clone) -> None:
        done = fresh_clone.run("destroy", "--stage", "dev")
        assert (done.returncode, done.stderr) == (
            1,
            "This deletes peal-dev and all data in table peal-dev-connections. If you mean it: "
            "make destroy STAGE=dev CONFIRM=peal-dev-connections\n",
        )

    def test_the_table_of_prod_is_protected(self, fresh_clone: Clone) -> None:
        fresh_clone.deploys("prod")
        before = remains(fresh_clone.account)
        refused = fresh_clone.run("destroy", "--stage", "prod", "--confirm", "peal-prod-connections")
        assert (refused.returncode, refused.stderr) == (
            1,
            "Table peal-prod-connections is protected against deletion, so nothing was deleted. To lift that: "
            "aws dynamodb update-table --table-name peal-prod-connections --no-deletion-protection-enabled\n",
        )
        assert remains(fresh_clone.account) == before
        dynamodb = fresh_clone.account.client("dynamodb")
        dynamodb.update_table(TableName="peal-prod-connections", DeletionProtectionEnabled=False)
        done = fresh_clone.run("destroy", "--stage", "prod", "--confirm", "peal-prod-connections")
        assert done.returncode == 0, done.stdout + done.stderr
        assert remains(fresh_clone.account) == {}


class TestCustomDomain:
    """Chalice reads the mapping from its records; without them it could not deploy again.

    Only the WebSocket API's: Chalice updates a domain name of the REST API each time, and MiniStack cannot.
    """

    def test_it_is_created_once_and_found_again(self, fresh_clone: Clone) -> None:
        certificate = fresh_clone.account.client("acm").request_certificate(DomainName="*.example.com")[
            "CertificateArn"
        ]
        config = fresh_clone.directory / ".chalice" / "config.json"
        settings = json.loads(config.read_text())
        domain = {"domain_name": "ws.example.com", "certificate_arn": certificate}
        settings["stages"]["dev"]["websocket_api_custom_domain"] = domain
        config.write_text(json.dumps(settings))
        fresh_clone.deploys()
        before = self.mappings(fresh_clone)
        fresh_clone.forgets()
        fresh_clone.deploys()
        assert self.mappings(fresh_clone) == before
        assert [name for name, _ in before] == ["ws.example.com"]
        done = fresh_clone.run("destroy", "--stage", "dev", "--confirm", "peal-dev-connections")
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.mappings(fresh_clone) == []

    def mappings(self, clone: Clone) -> list[tuple[str, str]]:
        """Return each custom domain with its API."""
        client = clone.account.client("apigatewayv2")
        names = [domain["DomainName"] for domain in client.get_domain_names()["Items"]]
        return [
            (name, mapping["ApiId"]) for name in names for mapping in client.get_api_mappings(DomainName=name)["Items"]
        ]
