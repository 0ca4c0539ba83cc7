"""SELECTION of `plan` and `backfill`: assets by name, layer or dataset, with what is upstream or downstream."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from etl_resources.errors import PermanentError
from etl_resources.suggest import hint

EVERYTHING = ("*", "all")
SERVING = "serving"
STORES = ("postgres", "elasticsearch")
"""What names of targets begin with."""
_TERM = re.compile(r"(?P<up>\d*\+)?(?P<name>[^+\s]+)(?P<down>\+\d*)?")


class Selectable(Protocol):
    """A table or a target, as much of it as a selection asks for."""

    @property
    def name(self) -> str:
        """E.g. silver.sales_orders."""

    @property
    def upstream(self) -> Sequence[str]:
        """What it is made from."""


def select(nodes: Sequence[Selectable], datasets: Mapping[str, str], terms: Iterable[str]) -> list[str]:
    """Names of the selected assets, upstream first. datasets: asset → dataset that it belongs to.

    A term is a name (gdp.sales, gdp/sales), a layer, a dataset, `serving` or `*`; `+term` adds all that it is made
    from, `term+` all that is made from it, `2+term+1` so many steps. Raises PermanentError with the valid names.
    """
    upstream = {n.name: n.upstream for n in nodes}
    downstream: dict[str, list[str]] = {n.name: [] for n in nodes}
    for name, inputs in upstream.items():
        for i in inputs:
            downstream[i].append(name)
    chosen: set[str] = set()
    for term in (t for text in terms for t in text.replace(",", " ").split()):
        found = _TERM.fullmatch(term)
        if found is None:
            raise PermanentError(f"{term!r} is no selection; valid: a name, +name, name+, 2+name+1.")
        start = _named(found["name"], list(upstream), datasets)
        chosen |= (
            start | _reach(start, upstream, _steps(found["up"])) | _reach(start, downstream, _steps(found["down"]))
        )
    if not chosen:
        raise PermanentError("Nothing is selected; valid: names of assets, layers or datasets, or `*`.")
    return [n.name for n in nodes if n.name in chosen]


def _named(text: str, names: Sequence[str], datasets: Mapping[str, str]) -> set[str]:
    wanted = text.replace("/", ".")
    if wanted in EVERYTHING:
        return set(names)
    if wanted in names:
        return {wanted}
    stores = STORES if wanted == SERVING else (wanted,)
    found = {n for n in names if n.partition(".")[0] in stores} or {n for n in names if datasets[n] == wanted}
    if not found:
        layers = dict.fromkeys(n.partition(".")[0] for n in names)
        valid = [*names, *layers, SERVING, *dict.fromkeys(datasets[n] for n in names)]
        raise PermanentError(f"Nothing is named {text!r}; {hint(wanted, valid)}.")
    return found


def _steps(text: str | None) -> int:
    """How far: 0 where it isn't asked for, else the number, or as far as there is."""
    if text is None:
        return 0
    digits = text.strip("+")
    return int(digits) if digits else len(text) * 1_000_000


def _reach(start: Iterable[str], edges: Mapping[str, Sequence[str]], steps: int) -> set[str]:
    reached, edge = set(start), set(start)
    while edge and steps:
        edge = {n for name in edge for n in edges[name]} - reached
        reached |= edge
        steps -= 1
    return reached
