"""Two processes publish ranges that overlap, over the platform's Postgres catalog: the newest epoch wins everywhere."""

import multiprocessing
import shutil
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pyiceberg.catalog import load_catalog

from etl_resources.settings import load_settings
from etl_resources.tables.catalog import CATALOG_SCHEMA, _sqlalchemy_url
from etl_resources.tables.publish import PublishOutcome
from tests.integration.local_table import IDENTIFIER, LocalTable, close, prove_epochs_grow

MONTHS = [f"2024-{month:02d}" for month in range(1, 10)]
RANGES = {"first": MONTHS[:6], "second": MONTHS[3:]}
ROUNDS = 4
TIMEOUT_S = 120


def open_table(dsn: str, catalog_name: str, folder: Path) -> LocalTable:
    catalog = load_catalog(catalog_name, type="sql", uri=_sqlalchemy_url(dsn), warehouse=str(folder / "warehouse"))
    return LocalTable(catalog, folder)


def write_rounds(who: str, dsn: str, catalog_name: str, folder: Path, together: Barrier, done: Any) -> None:
    """In each round: draw an epoch, stage the range, publish it when the other has staged too."""
    try:
        local = open_table(dsn, catalog_name, folder)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for n in range(ROUNDS):
                epoch = connection.execute(f"select nextval('{catalog_name}')").fetchone()
                assert epoch is not None
                staged = local.stage(f"{who}-{n}", epoch[0], dict.fromkeys(RANGES[who], epoch[0]))
                together.wait(TIMEOUT_S)
                done.put((who, epoch[0], local.publish(f"{who}-{n}", staged)))
                together.wait(TIMEOUT_S)
        close(local.catalog)
    except BaseException as e:
        together.abort()
        done.put((who, 0, repr(e)))
        raise


@pytest.fixture
def shared(stack: object, tmp_path: Path) -> Iterator[tuple[str, str, LocalTable]]:
    """(DSN, name of catalog and of the sequence of epochs, table) of this test's own."""
    dsn, name = load_settings().require_postgres(), f"overlap_{uuid4().hex[:10]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create schema if not exists {CATALOG_SCHEMA}")  # no lake was opened here before
        connection.execute(f"create sequence {name}")
        local = open_table(dsn, name, tmp_path)
        yield dsn, name, local
        local.catalog.drop_table(IDENTIFIER)
        local.catalog.drop_namespace(IDENTIFIER.split(".")[0])
        close(local.catalog)
        connection.execute(f"drop sequence {name}")
    shutil.rmtree(tmp_path, ignore_errors=True)


def outcomes(done: Any, processes: list[Any]) -> list[tuple[str, int, PublishOutcome]]:
    """One per writer and round; a writer that failed says why."""
    found: list[tuple[str, int, PublishOutcome]] = []
    while len(found) < ROUNDS * len(processes):
        try:
            found.append(done.get(timeout=TIMEOUT_S))
        except Empty:
            pytest.fail(f"writers stopped after {len(found)} publishes: {[p.exitcode for p in processes]}")
        assert isinstance(found[-1][2], PublishOutcome), found[-1]
    return found


def test_the_newest_epoch_of_every_partition_is_published_whole(
    shared: tuple[str, str, LocalTable], tmp_path: Path
) -> None:
    """Both publish at once in each round: one is rebased or fenced in part, nothing is lost, doubled or put back."""
    dsn, name, local = shared
    context = multiprocessing.get_context("spawn")
    together, done = context.Barrier(2), context.Queue()
    arguments = (dsn, name, tmp_path, together, done)
    processes = [context.Process(target=write_rounds, args=(who, *arguments)) for who in RANGES]
    for process in processes:
        process.start()
    try:
        found = outcomes(done, processes)
    finally:
        for process in processes:
            process.join(TIMEOUT_S)
            process.kill()
    newest = {m: max(epoch for who, epoch, _ in found if m in RANGES[who]) for m in MONTHS}
    assert local.epochs() == newest
    assert local.contents() == newest
    assert local.branches() == set()
    assert all(len(local.files(m)) == 1 for m in MONTHS)
    for who, _, outcome in found:
        assert {p.partition for p in outcome.published} | set(outcome.fenced) == set(RANGES[who])
    assert any(outcome.how != "fast_forward" for _, _, outcome in found), "they never met"
    prove_epochs_grow(local)
