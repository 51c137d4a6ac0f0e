"""The user's cache, and changes to this process that can be taken back: os.environ, sys.path, the project's modules.

Chalice and the gateway load one project per process; a test suite loads many, one after the other.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def applied(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables, or remove those given as None, until the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    put(variables)
    try:
        yield
    finally:
        put(before)


def put(variables: Mapping[str, str | None]) -> None:
    """Set environment variables; None removes."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def imported_from(project_dir: Path) -> Iterator[None]:
    """Have `app`, `chalicelib` and `vendor` of a project imported afresh, until the block ends.

    Modules of these names from another project are put back afterwards.
    """
    path = list(sys.path)
    hidden = take_modules(project_dir)
    sys.path.insert(0, str(project_dir))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        take_modules(project_dir)
        sys.modules.update(hidden)
        sys.path[:] = path


def take_modules(project_dir: Path) -> dict[str, ModuleType]:
    """Remove the modules that a Chalice project brings from sys.modules, and return them."""
    vendor = str(project_dir / "vendor") + os.sep
    names = [
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] in {"app", "chalicelib"}
        or str(getattr(module, "__file__", None) or "").startswith(vendor)
    ]
    return {name: sys.modules.pop(name) for name in names}


def cache_directory() -> Path:
    """Return where this user's files are kept between runs, by the XDG rules: a relative path counts as none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        cache = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return cache / "localgateway"
