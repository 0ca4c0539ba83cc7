"""A dataset served in Elasticsearch beside Postgres, through Dagster, from the ERP to the documents."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl_assets.graph.published import read_served
from etl_assets.query import run_query
from etl_assets.recover import recover
from etl_assets.verify import verify
from etl_resources.errors import PermanentError, SettingsError, TransientError
from etl_resources.sinks.elasticsearch_sink import ElasticsearchSink
from tests.invariants import prove_whole
from tests.lake import KPI, SERVED, Lake, new_lake
from tests.projects import SALES
from tests.search_target import search_variables
from tests.unit.project_edits import KPI as KPI_MANIFEST
from tests.unit.project_edits import PLATFORM, edit

FIRST, LAST = "2024-01", "2024-02"
REPLACED, UPSERTED = "elasticsearch/kpi", "elasticsearch/kpi_latest"


@pytest.fixture(scope="module")
def searched(search: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake of a project whose KPI is served thrice, two months of it materialized."""
    folder = tmp_path_factory.mktemp("searched") / "etl_assets"
    shutil.copytree(SALES, folder)
    edit(
        folder / PLATFORM, 'postgres: ["analytics.*"]', 'postgres: ["analytics.*"]\n  elasticsearch: [kpi, kpi_latest]'
    )
    targets = "load: replace}\n  - {elasticsearch: kpi}\n  - {elasticsearch: kpi_latest, load: upsert}"
    edit(folder / KPI_MANIFEST, "load: replace}", targets)
    with new_lake(tmp_path_factory.mktemp("lake"), project=folder) as lake:
        made = Lake({**lake.env, **search_variables()})
        run = made.materialize(FIRST, LAST)
        assert run.success, run.error
        yield made


def test_what_is_served_equals_the_table_in_every_store(searched: Lake) -> None:
    """verify rereads Iceberg, Postgres and each document, and compares their hashes."""
    report = verify(searched.runtime, [], [], lambda _: None)

    served = {a.asset: a for a in report.assets if a.asset.startswith(("elasticsearch.", "postgres."))}
    assert [str(d) for a in report.assets for d in a.differences] == []
    assert report.leftovers == ()
    versions = {name: {p: v.version for p, v in a.partitions.items()} for name, a in served.items()}
    assert len(versions) == 3
    assert len({str(v) for v in versions.values()}) == 1
    prove_whole(searched)


def test_a_second_run_has_nothing_to_serve(searched: Lake) -> None:
    """The run token is the same in every store."""
    run = searched.materialize(FIRST, LAST)

    assert run.success, run.error
    for asset in (KPI, SERVED, REPLACED, UPSERTED):
        assert run.partitions(asset, "pruned") == {FIRST, LAST}, asset


def test_documents_are_loaded_as_rows_of_the_contract(searched: Lake) -> None:
    """Another asset may read what is served: with the types of the table, decimals exact."""
    rows = {}
    for asset in ("postgres.analytics.kpi_net_revenue", "elasticsearch.kpi", "elasticsearch.kpi_latest"):
        with read_served(searched.runtime, asset, [FIRST]).relation() as relation:
            columns = ", ".join(searched.runtime.project.tables["kpi.kpi_net_revenue"].contract.names)
            rows[asset] = sorted(relation.project(columns).fetchall(), key=str)
    assert rows["elasticsearch.kpi"]
    assert len({str(r) for r in rows.values()}) == 1


def asked(lake: Lake, sql: str) -> list[tuple[object, ...]]:
    with lake.environment(), run_query(lake.runtime, sql) as result:
        return [row for batch in result.batches for row in batch]


def test_sql_reads_documents_beside_every_other_table(searched: Lake) -> None:
    """The rows and types of the contract, joined with other stores; the fields that only fence aren't among them."""
    wanted = asked(searched, "describe kpi.kpi_net_revenue")
    for target in ("elasticsearch.kpi", "elasticsearch.kpi_latest"):
        assert [d[:2] for d in asked(searched, f"describe {target}")] == [d[:2] for d in wanted]
        for one, other in (("kpi.kpi_net_revenue", target), (target, "postgres.analytics.kpi_net_revenue")):
            assert asked(searched, f"(from {one} except all from {other})") == []
            assert asked(searched, f"(from {other} except all from {one})") == []
    assert asked(searched, "select count(*) > 0 from elasticsearch.kpi join elasticsearch.kpi_latest using (month)")


def test_sql_tells_why_documents_cannot_be_read(searched: Lake, tmp_path: Path) -> None:
    """No server known, none there, or nothing published: never an empty table."""
    known = {k: v for k, v in searched.env.items() if not k.startswith("ETL_ELASTICSEARCH")}
    with pytest.raises(SettingsError, match="ETL_ELASTICSEARCH_URL is not set"):
        asked(Lake(known), "from elasticsearch.kpi")
    with pytest.raises(TransientError, match=r"elasticsearch\.kpi can't be read: Elasticsearch: .*refused"):
        asked(Lake({**searched.env, "ETL_ELASTICSEARCH_URL": "http://127.0.0.1:1"}), "from elasticsearch.kpi")
    renamed = tmp_path / "etl_assets"
    shutil.copytree(searched.env["ETL_PROJECT"], renamed)
    edit(renamed / PLATFORM, "[kpi, kpi_latest]", "[kpi_new, kpi_latest]")
    edit(renamed / KPI_MANIFEST, "{elasticsearch: kpi}", "{elasticsearch: kpi_new}")
    with pytest.raises(PermanentError, match=r"elasticsearch\.kpi_new is not published yet"):
        asked(Lake({**searched.env, "ETL_PROJECT": str(renamed)}), "from elasticsearch.kpi_new")


def one_of(sink: ElasticsearchSink) -> Any:
    """A document of the first month as a search gives it."""
    found = next(sink.documents([FIRST])).ids[0].as_py()
    return sink.client.search(index=sink.target, query={"ids": {"values": [found]}})["hits"]["hits"][0]


@pytest.mark.parametrize("place", [1, 2], ids=["replace", "upsert"])
def test_a_document_that_somebody_deleted_is_found(searched: Lake, place: int) -> None:
    """A stored hash would still say that all is well."""
    node = searched.runtime.project.serving[place]
    sink = searched.runtime.search_sink(node)
    hit = one_of(sink)
    sink.client.delete(index=hit["_index"], id=hit["_id"], refresh=True)

    report = verify(searched.runtime, [node.name], [], lambda _: None)

    assert any(d.what == "content" and d.partition == FIRST for a in report.assets for d in a.differences)
    sink.client.index(index=hit["_index"], id=hit["_id"], document=hit["_source"], refresh=True)


def test_what_readers_find_beside_the_target_is_told(searched: Lake) -> None:
    """Each published partition may be right, and readers still get more than was published."""
    replaced, upserted = (searched.runtime.search_sink(searched.runtime.project.serving[n]) for n in (1, 2))
    client = replaced.client
    hit = one_of(upserted)
    stray = {**hit["_source"], "etl_partition": "2031-01"}
    client.indices.create(index="stranger", aliases={replaced.target: {}})
    client.index(index=hit["_index"], id="stray", document=stray, refresh=True)

    report = verify(searched.runtime, ["elasticsearch.kpi", "elasticsearch.kpi_latest"], [], lambda _: None)

    client.indices.delete(index="stranger")
    client.delete(index=hit["_index"], id="stray", refresh=True)
    assert {(d.asset, d.partition, d.what) for a in report.assets for d in a.differences} == {
        ("elasticsearch.kpi", None, "readers"),
        ("elasticsearch.kpi_latest", "2031-01", "commit"),
    }


def test_recover_finds_nothing_to_do(searched: Lake) -> None:
    """Superseded and published indexes are nobody's leftovers."""
    found = recover(searched.runtime, [n.name for n in searched.runtime.project.serving])

    assert (found.actions, found.unsettled) == ([], [])
