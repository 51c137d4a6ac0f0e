"""Write the documents: `make documents`."""

import json
import sys

from tools.documents import asyncapi, openapi, typescript
from tools.documents.examples import PROJECT


def render() -> dict[str, str]:
    """Return the documents' texts, by their names below docs/."""
    protocol = asyncapi.build()
    return {
        "asyncapi.json": _dump(protocol),
        "openapi.json": _dump(openapi.build()),
        "peal.d.ts": typescript.build(protocol),
    }


def main() -> int:
    """Write the files."""
    for name, text in render().items():
        (PROJECT / "docs" / name).write_text(text)
    return 0


def _dump(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
