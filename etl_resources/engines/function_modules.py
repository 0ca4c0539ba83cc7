"""The modules of a batch function, imported from the texts that were hashed: no file of the project is read again.

Its packages are those of the plan, or nothing runs. An error names the file and line of the user's module.
"""

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import spec_from_loader
from threading import Lock
from typing import Any

from etl_resources.errors import PermanentError
from etl_resources.python_source import BatchFunction

SHOWN = 400
"""Characters of an error that are told."""
_lock = Lock()


class FunctionError(PermanentError):
    """A batch function failed, or gave what its contract doesn't allow."""


def load(function: BatchFunction) -> Callable[[Any], Any]:
    """The function itself, imported once a process. Raises FunctionError."""
    _prove_packages(function)
    texts = repr((sorted(function.sources.items()), sorted(function.files.items())))
    root = f"_etl_function_{hashlib.sha256(texts.encode()).hexdigest()[:16]}"
    with _lock:
        if not any(isinstance(f, _Sources) and f.root == root for f in sys.meta_path):
            sys.meta_path.append(_Sources(root, function))
    try:
        module = importlib.import_module(f"{root}.{function.module}")
        found: Callable[[Any], Any] = getattr(module, function.name)
    except (Exception, SystemExit) as e:
        raise FunctionError(f"{function} can't be imported: {told(e, function)}") from e
    return found


def told(error: BaseException, function: BatchFunction) -> str:
    """What happened, on one line, and the last line of the user's own files that took part."""
    text = " ".join(str(error).split())
    shown = f"{type(error).__name__}: {text[:SHOWN]}{' …' if len(text) > SHOWN else ''}"
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in function.files.values()]
    return f"{shown} ({own[-1].filename}:{own[-1].lineno}: `{own[-1].line}`)" if own else shown


def _prove_packages(function: BatchFunction) -> None:
    for name, planned in function.packages.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            here = "not installed"
        if here != planned:
            message = f"{function} was planned with {name} {planned}, and here it is {here}"
            raise FunctionError(f"{message}: give all machines the same packages.")


class _Sources(MetaPathFinder, ExecutionLoader):
    """Finds the modules of one function below a package of its own."""

    def __init__(self, root: str, function: BatchFunction) -> None:
        self.root, self._function = root, function

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        name = self._name(fullname)
        if name is None or (name not in self._function.sources and not self.is_package(fullname)):
            return None
        return spec_from_loader(fullname, self, is_package=self._is_package(name))

    def is_package(self, fullname: str) -> bool:
        return self._is_package(self._name(fullname) or "")

    def get_source(self, fullname: str) -> str:
        return self._function.sources.get(self._name(fullname) or "", "")

    def get_filename(self, fullname: str) -> str:
        return self._function.files.get(self._name(fullname) or "", f"<{fullname}>")

    def _name(self, fullname: str) -> str | None:
        """Module below datasets/; "" for the root, None for what isn't ours."""
        if fullname == self.root:
            return ""
        return fullname.removeprefix(f"{self.root}.") if fullname.startswith(f"{self.root}.") else None

    def _is_package(self, name: str) -> bool:
        is_file = self._function.files.get(name, "").endswith("__init__.py")
        return not name or is_file or any(other.startswith(f"{name}.") for other in self._function.sources)
