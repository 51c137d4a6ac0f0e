"""Run the Autobahn test suite, an independent reading of RFC 6455, against the local gateway.

    python tools/checks/autobahn.py              # everything without compression: half a minute
    python tools/checks/autobahn.py --deflate    # compression too: some ten minutes

Opt-in, because the suite (PyPI: autobahntestsuite) runs on Python 2.7 only, taken from PYTHON27 or the PATH; its
environment is built in the user's cache. The gateway runs an echo project with API Gateway's limits lifted. Cases that
need binary messages are left out: API Gateway refuses those with 1003.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from localgateway import Additions, Limits, LocalGateway
from localgateway.wire.tls import cache_directory

BINARY = ["1.2.*", "9.2.*", "9.4.*", "9.6.*", "9.8.*", "12.2.*", "12.3.*", "12.5.*"]
DEFLATE = ["12.*", "13.*"]
# `websockets` answers 1002 to a close frame between the fragments of a message: its documented choice.
KNOWN = {"7.1.5"}

LIFTED = replace(
    Limits(),
    frame_bytes=2**25,
    message_bytes=2**25,
    write_buffer_bytes=2**26,
    fragments_per_message=2**20,
    # The suite wants its echoes in order.
    in_flight_per_client=1,
)
ECHO = """
from chalice import Chalice

app = Chalice(app_name="echo")
app.experimental_feature_flags.update(["WEBSOCKETS"])

@app.on_ws_message()
def message(event):
    return {"statusCode": 200, "body": event.to_dict()["body"]}
"""


def main() -> int:
    """Run the suite, print its results, and return 1 if a case fails that is not known to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["*"], help="which cases, for example 1.1.* 7.*")
    parser.add_argument("--deflate", action="store_true", help="compression too")
    options = parser.parse_args()
    wstest = install()
    if wstest is None:
        print("Skipped: there is no Python 2.7. Set PYTHON27 to the path of one.")
        return 0
    with TemporaryDirectory(prefix="autobahn-") as directory:
        project = write_project(Path(directory) / "echo")
        with LocalGateway(project, limits=LIFTED, additions=Additions(route_responses=["$default"])) as gateway:
            specification = {
                "outdir": directory,
                "servers": [{"agent": "localgateway", "url": gateway.url}],
                "cases": options.cases,
                "exclude-cases": BINARY if options.deflate else BINARY + DEFLATE,
                "exclude-agent-cases": {},
            }
            (Path(directory) / "spec.json").write_text(json.dumps(specification))
            subprocess.run([wstest, "-m", "fuzzingclient", "-s", "spec.json"], cwd=directory, check=True)
        return report(json.loads((Path(directory) / "index.json").read_text())["localgateway"])


def install() -> Path | None:
    """Return the suite's program, built the first time; None without a Python 2.7."""
    python = os.environ.get("PYTHON27") or shutil.which("python2.7")
    home = cache_directory() / "autobahn"
    wstest = home / "env" / "bin" / "wstest"
    if wstest.exists() or python is None:
        return wstest if wstest.exists() else None
    bootstrap = str(home / "bootstrap")
    for command in (
        [python, "-m", "pip", "install", "--quiet", "--target", bootstrap, "virtualenv==16.7.12"],
        [python, "-m", "virtualenv", "--quiet", str(home / "env")],
        [str(home / "env" / "bin" / "pip"), "install", "--quiet", "autobahntestsuite==25.10.1"],
    ):
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": bootstrap})
    return wstest


def write_project(directory: Path) -> Path:
    (directory / ".chalice").mkdir(parents=True)
    config = {"version": "2.0", "app_name": "echo", "stages": {"local": {}}}
    (directory / ".chalice" / "config.json").write_text(json.dumps(config))
    (directory / "app.py").write_text(ECHO)
    return directory


def report(results: dict[str, dict[str, str]]) -> int:
    """Print how many cases ended how and which did not pass; return 1 if one of them is not known."""
    counts = Counter(result["behavior"] for result in results.values())
    print(f"\n{len(results)} cases: " + ", ".join(f"{count} {behavior}" for behavior, count in counts.most_common()))
    failed = {
        case
        for case, result in results.items()
        if "FAILED" in (result["behavior"], result["behaviorClose"]) or "UNCLEAN" in result["behaviorClose"]
    }
    for case in sorted(failed):
        result = results[case]
        note = " (known)" if case in KNOWN else ""
        print(f"{case}: {result['behavior']}, close {result['behaviorClose']}{note}")
    return 1 if failed - KNOWN else 0


if __name__ == "__main__":
    sys.exit(main())
