"""The embedded engine: what it may load, and where it spills."""

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier

import duckdb
import pytest
from pydantic import SecretStr

from etl_resources.engines.embedded import connect
from etl_resources.engines.spill import _of_this_process
from etl_resources.settings import Settings


def test_no_engine_loads_an_extension_that_was_changed(tmp_path: Path) -> None:
    """The signature of our own is checked once in a process; that must not open the door for any other file."""
    package = find_spec("duckdb_extension_httpfs")
    assert package is not None
    assert package.origin is not None
    (original,) = (Path(package.origin).parent / "extensions").rglob("httpfs.duckdb_extension")
    changed = tmp_path / "changed.duckdb_extension"
    content = bytearray(original.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    settings = _settings(tmp_path)
    for _ in range(2):
        with connect(settings) as engine, pytest.raises(duckdb.IOException, match="signature"):
            engine.execute(f"load '{changed}'")


def test_engines_that_spill_at_once_keep_their_own_rows(tmp_path: Path) -> None:
    """In one folder they write into each other's files: the partitions of one step crashed, or worse, mixed rows."""
    settings, both = _settings(tmp_path), Barrier(2, timeout=60)

    def wrong_rows(first: int) -> int:
        with connect(settings, threads=1, memory_mb=60) as engine:
            engine.execute(
                f"create temp table t as select i, md5(i::text) as m from range({first}, {first} + 2000000) r(i)"
            )
            both.wait()
            assert len(list((tmp_path / "spill").glob("engines-*/*/*"))) > 1
            found = engine.execute(
                f"select 2000000 - count(distinct i) filter (m = md5(i::text) and i >= {first}) from t"
            ).fetchone()
            both.wait()
            return int(found[0]) if found else -1

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrong_rows, (0, 10_000_000))) == [0, 0]
    assert not list((tmp_path / "spill").glob("engines-*/*/*"))


def test_what_a_killed_process_spilled_is_removed_by_the_next(tmp_path: Path) -> None:
    """Else each run that is killed keeps its part of the disk for ever; what lives is left alone."""
    spill = tmp_path / "spill"
    left = spill / "engines-killed" / "engine"
    left.mkdir(parents=True)
    (left / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"rows")
    own = _of_this_process(spill)
    assert list(spill.iterdir()) == [own]
    _of_this_process.cache_clear()
    assert own in {own, _of_this_process(spill)} <= set(spill.iterdir())


def _settings(home: Path) -> Settings:
    return Settings(
        home=home, s3_endpoint="http://127.0.0.1:1", s3_access_key=SecretStr("a"), s3_secret_key=SecretStr("b")
    )
