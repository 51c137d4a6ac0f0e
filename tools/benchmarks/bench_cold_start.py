"""Measure what ships and what it costs to start: package size, and CPU time of a cold start until its first send.

    python tools/benchmarks/bench_cold_start.py [--rounds 15] [--powertools]

The packages are built as `make package` does; each measurement is a process of its own in an unpacked one, with boto3
beside it as on Lambda, and keeps no bytecode, which Lambda cannot either. DynamoDB and @connections are a stub in
another process, so their time does not count. Rounds alternate between the variants; medians count. Linux only.
`--powertools` adds Powertools for AWS Lambda, in a package of its own.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from pealctl.deploy.programs import bytecode

REPOSITORY = Path(__file__).parents[2]
POWERTOOLS = "aws-lambda-powertools==3.37.0"
SHIPS = (
    *("app.py", "chalicelib", "requirements.txt", "resources.json"),
    *(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / ".chalice").glob("*.json")),
)

BARE_APP = """
from chalice import Chalice

app = Chalice(app_name="bare")
app.experimental_feature_flags.update(["WEBSOCKETS"])

@app.on_ws_connect()
def connect(event):
    pass
"""
BARE_CONFIG = '{"version": "2.0", "app_name": "bare", "stages": {"dev": {}}}'

BOTO3 = """
import boto3
boto3.session.Session().client("dynamodb")
"""
IMPORT = "import app\n"
EVENT = """
class Context:
    function_name, aws_request_id = "peal-dev", "0"

def event(kind, body=None):
    context = {
        "requestId": "R", "routeKey": kind, "connectionId": "L0SM9cOFvHcCIhw=", "apiId": "a1b2c3d4e5", "stage": "api",
        "domainName": "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com",
    }
    return {"requestContext": context, "body": body, "headers": {}, "queryStringParameters": {"userId": "u_1"}}
"""
CONNECT = IMPORT + EVENT + 'assert app.websocket_connect(event("$connect"), Context) == {"statusCode": 200}\n'
SEND = CONNECT + 'app.websocket_message(event("$default", \'{"action":"ping","id":1}\'), Context)\n'
BY_BOTO3 = 'import os\nos.environ["TABLE_CLIENT"] = "boto3"\n' + SEND
USE_POWERTOOLS = """
from aws_lambda_powertools import Logger, Metrics
logger = Logger(service="peal")
metrics = Metrics(namespace="Peal", service="peal")
"""

# The CPU time of one invocation that counts three things, in microseconds: its line, context and metrics.
OURS_PER_INVOCATION = """
import sys, time
from chalice.app import LambdaFunctionEvent
from chalicelib import logs, telemetry
from chalicelib.settings import Settings
logs.configure(Settings("t"), stream=open("/dev/null", "w"))
observer = telemetry.Observer()

def door(_):
    telemetry.note("action", "ping")
    for metric in ("Frames", "SendsOk", "DeliveryMs"):
        telemetry.count(telemetry.Metric(metric))

def invoke():
    observer(LambdaFunctionEvent(event("$default"), Context), door)
"""
POWERTOOLS_PER_INVOCATION = """
import sys, time
sys.stdout = open("/dev/null", "w")
from aws_lambda_powertools import Logger, Metrics
logger = Logger(service="peal")
metrics = Metrics(namespace="Peal", service="peal")

@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def door(event, context):
    logger.append_keys(action="ping", connectionId="L0SM9cOFvHcCIhw=", requestId="R")
    for metric in ("Frames", "SendsOk", "DeliveryMs"):
        metrics.add_metric(name=metric, unit="Count", value=1)
    logger.info("invocation")

class PowertoolsContext(Context):
    memory_limit_in_mb, invoked_function_arn = 128, "arn"

def invoke():
    door(event("$default"), PowertoolsContext)
"""
REPEAT = """
invoke()
started_at = time.process_time()
for _ in range(2_000):
    invoke()
print(round((time.process_time() - started_at) / 2_000 * 1e6), file=sys.stderr)
"""


ROW = (
    b'{"Item":{"PK":{"S":"CONN#L0SM9cOFvHcCIhw="},"SK":{"S":"CONN"},"GSI1PK":{"S":"USER#u_1"},'
    b'"userId":{"S":"u_1"},"ttl":{"N":"9999999999"}}}'
)


@dataclass(frozen=True)
class Variant:
    """What a process does from start to end, and in which package."""

    name: str
    code: str
    package: Path


class Stub(BaseHTTPRequestHandler):
    """Answer every request to DynamoDB or API Gateway with the row of a connection that never expires."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ROW)))
        self.end_headers()
        self.wfile.write(ROW)

    def log_message(self, *_: object) -> None:
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each variant is measured (15)")
    parser.add_argument("--powertools", action="store_true", help="measure Powertools for AWS Lambda too")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as directory, running(Stub) as endpoint:
        here = Path(directory)
        peal = package(here / "peal")
        bare = package(here / "bare", app=BARE_APP)
        variants = [
            Variant("Python alone", "pass", bare),
            Variant("boto3 with a DynamoDB client", BOTO3, bare),
            Variant("a bare Chalice app", IMPORT, bare),
            Variant("a bare Chalice app and that client", IMPORT + BOTO3, bare),
            Variant("Peal, imported", IMPORT, peal),
            Variant("Peal, first connect answered", CONNECT, peal),
            Variant("Peal, first frame answered too", SEND, peal),
            Variant("the same with TABLE_CLIENT=boto3", BY_BOTO3, peal),
            Variant("the same by default, without bytecode in the package", SEND, without_bytecode(peal)),
        ]
        loops = {"Peal": Variant("", EVENT + OURS_PER_INVOCATION + REPEAT, peal)}
        if options.powertools:
            heavy = package(here / "powertools", requirement=POWERTOOLS)
            variants.append(
                Variant("Peal, imported, and Powertools' Logger and Metrics", IMPORT + USE_POWERTOOLS, heavy)
            )
            loops["Powertools"] = Variant("", EVENT + POWERTOOLS_PER_INVOCATION + REPEAT, heavy)
        environment = environment_for(endpoint)
        # The first round fills the page cache and does not count.
        rounds = [[measure(variant, environment) for variant in variants] for _ in range(options.rounds + 1)][1:]
        report(variants, [statistics.median(cpu_ms) for cpu_ms in zip(*rounds, strict=True)])
        for name, loop in loops.items():
            print(f"\nCPU of an invocation's own line, {name}: {per_invocation(loop, environment)} us")


def package(project: Path, app: str | None = None, requirement: str = "") -> Path:
    """Build a package, unpack it and return the directory; `deployment.zip` is beside it."""
    for name in SHIPS if app is None else ():
        target = project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, target)
    if app is not None:
        (project / ".chalice").mkdir(parents=True)
        (project / ".chalice" / "config.json").write_text(BARE_CONFIG)
        (project / "app.py").write_text(app)
    with (project / "requirements.txt").open("a") as requirements:
        requirements.write(f"\n{requirement}\n")
    out = project.with_name(f"{project.name}-package")
    with bytecode(project) if app is None else nullcontext():
        subprocess.run(
            [Path(sys.executable).with_name("chalice"), "package", "--stage", "dev", out],
            cwd=project,
            env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1", "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    with zipfile.ZipFile(out / "deployment.zip") as archive:
        archive.extractall(out / "task")
    return out / "task"


def without_bytecode(package: Path) -> Path:
    """Copy the package as `chalice package` alone would make it; return the directory."""
    return Path(shutil.copytree(package, package.with_name("source"), ignore=shutil.ignore_patterns("__pycache__")))


@contextmanager
def running(stub: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a stub in a process of its own; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), stub) as server:
        child = os.fork()
        if child == 0:
            server.serve_forever()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def environment_for(endpoint: str) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "APIGW_MANAGEMENT_ENDPOINT": f"{endpoint}/api",
        "CONNECTIONS_TABLE": "bench",
        "JOBS_QUEUE": "bench",
        "ALLOW_ANONYMOUS": "true",
        "STAGE": "bench",
        "PYTHONDONTWRITEBYTECODE": "1",
        "POWERTOOLS_SERVICE_NAME": "peal",
    }


def measure(variant: Variant, environment: Mapping[str, str]) -> float:
    """Run the variant once, to its end; return the CPU time of its process in milliseconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", variant.code], cwd=variant.package, env=dict(environment), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{variant.name} fails in {variant.package}")
    return float(usage.ru_utime + usage.ru_stime) * 1000


def per_invocation(variant: Variant, environment: Mapping[str, str]) -> int:
    command = [sys.executable, "-c", variant.code]
    runs = [
        subprocess.run(command, cwd=variant.package, env=dict(environment), capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    return int(statistics.median(int(run.stderr) for run in runs))


def report(variants: Sequence[Variant], medians_ms: Sequence[float]) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}\n")
    print("| package | zip, KB | unpacked, KB |\n|---|---|---|")
    for directory in dict.fromkeys(variant.package for variant in variants if variant.package.name == "task"):
        zipped = (directory.parent / "deployment.zip").stat().st_size
        unpacked = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        name = directory.parent.name.removesuffix("-package")
        print(f"| {name} | {zipped / 1024:,.0f} | {unpacked / 1024:,.0f} |")
    print("\n| CPU of the whole process, median | ms |\n|---|---|")
    for variant, median_ms in zip(variants, medians_ms, strict=True):
        print(f"| {variant.name} | {median_ms:.0f} |")


if __name__ == "__main__":
    main()
