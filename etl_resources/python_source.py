"""A Python transform as text: the function's module and what it imports from beside it, found without running it.

What is found here is both what the logic version hashes and what every engine runs: nothing else is imported from the
project's folder, and no file is read again. None of it is executed here.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from etl_resources.errors import ManifestError
from etl_resources.manifest_file import shown
from etl_resources.suggest import hint

FRAMES = "polars"
"""The package whose frames functions take and give: its version is part of their logic, imported or not."""
_BY_NAME = ("importlib", "pkgutil", "runpy")
_BY_TEXT = ("__import__", "compile", "eval", "exec")
"""Ways to code that nobody sees beforehand."""
_PLATFORM = ("etl_assets", "etl_resources")


@dataclass(frozen=True)
class BatchFunction:
    """A function from polars frame to polars frame, whole: engines hand it to their processes as it is."""

    name: str
    module: str
    """Its module below datasets/: customers.clean."""
    sources: Mapping[str, str] = field(repr=False)
    """Module → text, of its own and of those that it imports from there."""
    files: Mapping[str, str] = field(repr=False)
    """Module → its file, as errors show it."""
    packages: Mapping[str, str] = field(repr=False)
    """Distribution that they import → version."""

    def __str__(self) -> str:
        return f"{self.files[self.module].rpartition('/')[2]}:{self.name}"

    @property
    def logic(self) -> dict[str, Any]:
        """What decides its result. The file's place and name aren't part."""
        others = {name: text for name, text in self.sources.items() if name != self.module}
        return {
            "function": self.name,
            "source": self.sources[self.module],
            **({"modules": others} if others else {}),
            "packages": dict(self.packages),
        }


def read_function(root: Path, path: Path, name: str) -> tuple[BatchFunction | None, list[ManifestError]]:
    """The function of a module below `root`, the folder of all datasets; None where something is wrong with it.

    Raises OSError and UnicodeDecodeError for the module itself.
    """
    reading = _Reading(root)
    module = ".".join(path.relative_to(root).with_suffix("").parts)
    tree = reading.add(module, path)
    if tree is not None:
        reading.errors += _signature(tree, path, name)
        reading.follow(module, path, tree)
    reading.packages[FRAMES] = version(FRAMES)
    if reading.errors:
        return None, reading.errors
    packages = {n: reading.packages[n] for n in sorted(reading.packages)}
    return BatchFunction(name, module, reading.sources, reading.files, packages), []


def _signature(tree: ast.Module, path: Path, name: str) -> Iterator[ManifestError]:
    """It is there, and can be called with one frame."""
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    found = functions.get(name)
    if found is None:
        yield ManifestError(f"has no function {name!r}; {hint(name, list(functions))}", file=shown(path), line=1)
        return
    takes = found.args
    needed = len(takes.posonlyargs) + len(takes.args) - len(takes.defaults)
    is_one = needed <= 1 <= needed + len(takes.defaults) + bool(takes.vararg) and None not in takes.kw_defaults
    if isinstance(found, ast.AsyncFunctionDef) or not is_one:
        message = f"{name} must be a plain function of one argument, the polars DataFrame of a batch"
        yield ManifestError(message, file=shown(path), line=found.lineno)


class _Reading:
    """Modules on their way to a function, with what was found to be wrong."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.sources: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self.errors: list[ManifestError] = []

    def add(self, module: str, path: Path) -> ast.Module | None:
        """Its tree; None where it is no Python, which is told."""
        text = path.read_text(encoding="utf-8")  # line ends of every kind are \n from here on
        self.sources[module], self.files[module] = text, shown(path)
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError) as e:
            line = e.lineno if isinstance(e, SyntaxError) else 1
            self.errors.append(ManifestError(f"is no valid Python: {e.args[0]}", file=shown(path), line=line))
            return None

    def follow(self, module: str, path: Path, tree: ast.Module) -> None:
        """What it imports, and what that imports."""
        for node in ast.walk(tree):
            at = _At(self, module, path, getattr(node, "lineno", 1))
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._outside(alias.name, at)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                self._outside(node.module or "", at)
            elif isinstance(node, ast.ImportFrom):
                self._beside(node, at)
            elif isinstance(node, ast.Name) and node.id in _BY_TEXT:
                at.error(f"{node.id} runs what can't be seen beforehand, which would be no part of the logic")

    def _outside(self, name: str, at: "_At") -> None:
        top = name.partition(".")[0]
        if top in _BY_NAME:
            at.error(f"{top} imports what can't be seen beforehand, which would be no part of the logic")
        elif top in _PLATFORM:
            at.error(f"{top} is the platform, of which a transform is no part; remove the import")
        elif (at.path.parent / f"{top}.py").exists():
            at.error(f"{top}.py lies beside it: write `from .{top} import …`")
        elif top not in sys.stdlib_module_names:
            found = _versions(top)
            if not found:
                at.error(f"{top!r} is neither installed nor a part of Python")
            self.packages |= found

    def _beside(self, node: ast.ImportFrom, at: "_At") -> None:
        """A relative import: a module, or several of a folder."""
        inside = at.module.split(".")
        if at.path.name != "__init__.py":
            inside.pop()
        up = node.level - 1
        if up > len(inside):
            at.error(f"{'.' * node.level}{node.module or ''} lies outside of the folder of all datasets")
            return
        base = [*inside[: len(inside) - up], *(node.module.split(".") if node.module else ())]
        found = self._module(base)
        each = [self._module([*base, alias.name]) for alias in node.names]
        if not found and not all(each):
            lacking = next(alias.name for alias, there in zip(node.names, each, strict=True) if not there)
            wanted = "/".join(base if node.module else [*base, lacking])
            at.error(f"{wanted}.py doesn't exist in the folder of all datasets")

    def _module(self, names: list[str]) -> bool:
        """Whether there is such a module; it is taken with the folders around it."""
        for end in range(1, len(names) + 1):
            module, place = ".".join(names[:end]), self._root.joinpath(*names[:end])
            candidates = [place / "__init__.py", *([place.with_suffix(".py")] if end == len(names) else [])]
            path = next((p for p in candidates if p.is_file()), None)
            if path is not None and module not in self.sources:
                tree = self.add(module, path)
                if tree is not None:
                    self.follow(module, path, tree)
        return ".".join(names) in self.sources


@dataclass(frozen=True)
class _At:
    """A line of a module."""

    reading: _Reading
    module: str
    path: Path
    line: int

    def error(self, message: str) -> None:
        self.reading.errors.append(ManifestError(message, file=shown(self.path), line=self.line))


def _versions(top: str) -> dict[str, str]:
    """Distributions that give a package → version; {} where it isn't installed."""
    try:
        return {top: version(top)}
    except PackageNotFoundError:
        return {name: version(name) for name in packages_distributions().get(top, ())}
