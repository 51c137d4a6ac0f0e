"""Where the engine for tables and queues is installed, and what happens when several want it or none can have it."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import boto3
import pytest

from localgateway.__main__ import main
from localgateway.aws import installation
from localgateway.aws.engine import Engine
from localgateway.aws.local_aws import DUMMY_CREDENTIALS
from localgateway.errors import ResourceError

pytestmark = pytest.mark.slow

# An engine as small as can be: it answers what an installation is tried with, and counts how often it was fetched.
APP = """
async def app(scope, receive, send):
    raise AssertionError("served by Hypercorn below")
"""
HYPERCORN = """
import asyncio

class Config:
    pass

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 STATUS OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    await writer.drain()
    writer.close()

async def serve(app, config):
    import socket
    listener = socket.socket(fileno=int(config.bind[0].removeprefix("fd://")))
    async with await asyncio.start_server(answer, sock=listener) as server:
        await server.serve_forever()
"""


def write_wheel(directory: Path, name: str, files: dict[str, str]) -> None:
    """Write a wheel of version 1 that any installer takes."""
    info = f"{name}-1.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with ZipFile(directory / f"{name}-1-py3-none-any.whl", "w") as wheel:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(path, text)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels in place of the package index; installers find nothing else."""
    directory = tmp_path / "index"
    directory.mkdir()
    write_wheel(directory, "ministack", {"ministack/__init__.py": "", "ministack/app.py": APP})
    write_index(directory, "200")
    for name in ("PIP", "UV"):
        monkeypatch.setenv(f"{name}_NO_INDEX", "1")
        monkeypatch.setenv(f"{name}_FIND_LINKS", str(directory))
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("LOCALGATEWAY_ENGINE_DIR", str(tmp_path / "engines"))
    return directory


def write_index(directory: Path, status: str) -> None:
    source = HYPERCORN.replace("STATUS", status)
    files = {"hypercorn/__init__.py": "", "hypercorn/config.py": source, "hypercorn/asyncio.py": source}
    write_wheel(directory, "hypercorn", files)


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text("ministack==1\nhypercorn==1\n")
    return path


@pytest.mark.usefixtures("index")
class TestInstalling:
    def test_it_is_installed_once_in_a_directory_named_after_it(self, requirements, index, tmp_path, caplog):
        directory = installation.install(requirements)
        assert directory.parent == tmp_path / "engines"
        assert directory.name.startswith("ministack-1-")
        assert directory.name.endswith(sys.implementation.cache_tag)
        # Compiled, so that the first start is as fast as any other.
        assert list(directory.glob("ministack/__pycache__/app.*.pyc"))
        shutil.rmtree(index)
        assert installation.install(requirements) == directory
        assert [record.message for record in caplog.records] == [
            "Installing the engine for tables and queues (MiniStack 1) for the first time: some ten seconds."
        ]

    def test_other_requirements_have_a_directory_of_their_own(self, requirements):
        before = installation.engine_directory(requirements)
        requirements.write_text(requirements.read_text() + "h11==1\n")
        assert installation.engine_directory(requirements) != before

    def test_of_several_at_once_one_installs_and_the_others_wait(self, requirements, caplog):
        with ThreadPoolExecutor(3) as threads:
            directories = set(threads.map(lambda _: installation.install(requirements), range(3)))
        assert len(directories) == 1
        installing = [record for record in caplog.records if record.message.startswith("Installing")]
        assert len(installing) == 1

    def test_what_an_interrupted_installation_left_is_removed(self, requirements, tmp_path):
        final = installation.engine_directory(requirements)
        left = final.with_name(f"{final.name}.part-left")
        (left / "engine" / "ministack").mkdir(parents=True)
        installation.install(requirements)
        assert sorted(path.name for path in (tmp_path / "engines").iterdir()) == [final.name, f"{final.name}.lock"]

    def test_an_engine_that_does_not_serve_is_not_kept(self, requirements, index):
        write_index(index, "500")
        with pytest.raises(ResourceError, match="cannot be installed: dynamodb answers 500"):
            installation.install(requirements)
        assert not installation.engine_directory(requirements).exists()
        write_index(index, "200")
        assert installation.install(requirements).is_dir()

    def test_without_uv_pip_does_it(self, requirements, monkeypatch):
        monkeypatch.setattr("shutil.which", lambda name: None)
        assert installation.install(requirements).is_dir()

    def test_without_pip_a_new_environment_brings_it(self, requirements, monkeypatch):
        monkeypatch.setattr("shutil.which", lambda name: None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert installation.install(requirements).is_dir()


class TestWhatIsSaidWhenItCannotBeInstalled:
    way_out = (
        "Run `localgateway engine install` once where packages can be fetched, "
        "or let AWS_ENDPOINT_URL_DYNAMODB and AWS_ENDPOINT_URL_SQS point at engines of your own."
    )

    def test_nothing_can_be_fetched(self, requirements, index):
        (index / "ministack-1-py3-none-any.whl").unlink()
        with pytest.raises(ResourceError) as failure:
            installation.install(requirements)
        said = str(failure.value)
        assert said.startswith("The engine for tables and queues cannot be installed: ")
        assert "ministack" in said
        assert said.endswith(self.way_out)
        assert "\n" not in said

    @pytest.mark.usefixtures("index")
    def test_its_directory_cannot_be_made(self, requirements, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setenv("LOCALGATEWAY_ENGINE_DIR", str(tmp_path / "file" / "engines"))
        with pytest.raises(ResourceError, match="cannot be installed: .*Not a directory.*localgateway engine install"):
            installation.install(requirements)


class TestTheCommand:
    def test_path_fails_until_it_is_installed(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.setenv("LOCALGATEWAY_ENGINE_DIR", str(tmp_path))
        assert main(["engine", "path"]) == 1
        directory = Path(capsys.readouterr().out.strip())
        directory.mkdir()
        assert main(["engine", "path"]) == 0
        assert main(["engine", "install"]) == 0
        assert capsys.readouterr().out == f"{directory}\n" * 2

    def test_one_that_is_installed_beside_the_gateway_is_enough(self, monkeypatch, capsys):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        assert main(["engine", "install"]) == 0
        assert "MiniStack is installed beside the gateway" in capsys.readouterr().err

    def test_a_failure_is_one_sentence(self, monkeypatch, tmp_path, capsys):
        (tmp_path / "file").touch()
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        monkeypatch.setenv("LOCALGATEWAY_ENGINE_DIR", str(tmp_path / "file" / "engines"))
        assert main(["engine", "install"]) == 1
        assert "Not a directory" in capsys.readouterr().err


class TestThePinnedEngine:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """The pinned packages and nothing else: from this environment if they are here, else as installed."""
        if importlib.util.find_spec("ministack") is None:
            return installation.install()
        directory = tmp_path / "engine"
        for line in installation.REQUIREMENTS.read_text().splitlines():
            if not line.startswith("#"):
                name, _, pinned = line.partition("==")
                distribution = importlib.metadata.distribution(name)
                if distribution.version != pinned:
                    pytest.skip(f"{name} is {distribution.version} here; the engine has {pinned}")
                for file in distribution.files or ():
                    if file.suffix in (".py", ".so") and ".." not in file.parts:
                        target = directory / file
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.symlink_to(file.locate())
        return directory

    def test_it_serves_all_that_it_is_for_with_these_packages_alone(self, directory, monkeypatch):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        engine = Engine(installation.SERVICES, partial(installation.in_isolation, directory))
        engine.start()
        try:
            for name, value in (DUMMY_CREDENTIALS | engine.environment | {"AWS_REGION": "eu-central-1"}).items():
                monkeypatch.setenv(name, value)
            session = boto3.session.Session(region_name="eu-central-1")
            dynamodb, sqs, ssm, secrets = map(session.client, ("dynamodb", "sqs", "ssm", "secretsmanager"))
            dynamodb.create_table(
                TableName="rows",
                AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
            dynamodb.put_item(TableName="rows", Item={"PK": {"S": "a"}})
            assert dynamodb.scan(TableName="rows")["Count"] == 1
            url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
            sqs.send_message(QueueUrl=url, MessageBody="hello")
            assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "hello"
            ssm.put_parameter(Name="a", Value="b", Type="SecureString")
            assert ssm.get_parameter(Name="a", WithDecryption=True)["Parameter"]["Value"] == "b"
            secrets.create_secret(Name="a", SecretString="b")
            assert secrets.get_secret_value(SecretId="a")["SecretString"] == "b"
            for client in (dynamodb, sqs, ssm, secrets):
                client.close()
        finally:
            engine.stop()
