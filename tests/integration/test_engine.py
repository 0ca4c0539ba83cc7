"""The embedded engine: what it may load."""

from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest
from pydantic import SecretStr

from etl_resources.engines.embedded import connect
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
    settings = Settings(
        home=tmp_path, s3_endpoint="http://127.0.0.1:1", s3_access_key=SecretStr("a"), s3_secret_key=SecretStr("b")
    )
    for _ in range(2):
        with connect(settings) as engine, pytest.raises(duckdb.IOException, match="signature"):
            engine.execute(f"load '{changed}'")
