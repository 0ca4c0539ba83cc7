"""The product with one of its functions changed, in this process: what a check is for must be found by it."""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Mutation:
    """Text that is replaced in one function (or Class.method) of a module."""

    module: str
    function: str
    text: str
    instead: str

    @contextmanager
    def made(self) -> Iterator[None]:
        """Everybody who has imported the function calls the changed one."""
        module = importlib.import_module(self.module)
        holder_name, _, name = self.function.rpartition(".")
        holder: Any = getattr(module, holder_name) if holder_name else module
        original = getattr(holder, name)
        changed = _changed(original, module, name, self.text, self.instead)
        with ExitStack() as patches:
            for place in [holder] if holder_name else _importers(original, name):
                patches.enter_context(mock.patch.object(place, name, changed))
            try:
                yield
            finally:  # a module that was imported meanwhile has taken the changed one
                for late in _importers(changed, name):
                    setattr(late, name, original)


def _changed(original: Any, module: ModuleType, name: str, text: str, instead: str) -> Any:
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(text) == 1, f"{module.__name__}.{name} has another form: adapt the mutation"
    made: dict[str, Any] = {}
    exec(compile(source.replace(text, instead), module.__file__ or "", "exec"), vars(module), made)  # noqa: S102
    return made[name]


def _importers(function: Any, name: str) -> list[ModuleType]:
    return [m for m in list(sys.modules.values()) if vars(m).get(name) is function]
