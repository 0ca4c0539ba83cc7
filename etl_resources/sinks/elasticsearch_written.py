"""What is known of an upserted target: its commit records, and what its documents say of themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl_resources.http_errors import status_of
from etl_resources.retries import retry_transient
from etl_resources.sinks.elasticsearch_documents import EPOCH_FIELD, PARTITION_FIELD
from etl_resources.sinks.elasticsearch_names import anchor, documents
from etl_resources.sinks.elasticsearch_sink import ServedPartition

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

PARTITIONS_MAX = 10_000
_CONFLICT, _NOT_FOUND = 409, 404
NOTHING: Mapping[str, Any] = {"bool": {"must_not": {"exists": {"field": PARTITION_FIELD}}}}
"""Finds documents without a partition, which this platform didn't write."""


@dataclass(frozen=True)
class Written:
    """A partition's documents now."""

    documents: int
    newest_epoch: int


def read_records(client: "Elasticsearch", target: str) -> dict[str, ServedPartition]:
    """Partition → what its commit record says."""
    index = anchor(target)
    retry_transient(lambda: client.indices.refresh(index=index), target)
    found = retry_transient(lambda: client.search(index=index, size=PARTITIONS_MAX).body, target)
    return {hit["_id"]: _published(hit["_source"]["record"]) for hit in found["hits"]["hits"]}


def read_record(client: "Elasticsearch", target: str, partition: str) -> ServedPartition | None:
    """What the commit record of one partition says; None without one."""

    def get() -> ServedPartition | None:
        try:
            return _published(client.get(index=anchor(target), id=partition)["_source"]["record"])
        except Exception as e:
            if status_of(e) == _NOT_FOUND:
                return None
            raise

    return retry_transient(get, target)


def _published(record: Mapping[str, Any]) -> ServedPartition:
    return ServedPartition(
        int(record["epoch"]), record["attempt"], record["version"], record.get("evidence"), record["rows"],
        record.get("written"), record.get("form"), record.get("mark"),
    )  # fmt: skip


def forget(client: "Elasticsearch", target: str, partitions: Iterable[str], epoch: int) -> None:
    """Delete commit records that are older than the epoch, of partitions that the target doesn't have any more."""
    for partition in partitions:

        def delete(partition: str = partition) -> None:
            try:
                client.delete(index=anchor(target), id=partition, version=epoch, version_type="external", refresh=True)
            except Exception as e:
                if status_of(e) not in (_CONFLICT, _NOT_FOUND):  # a newer attempt wrote it, or deleted it
                    raise

        retry_transient(delete, target)


def read_written(client: "Elasticsearch", target: str) -> dict[str, Written]:
    """Partition → its documents; none when there is no such target."""
    index = documents(target)
    newest = {"terms": {"field": PARTITION_FIELD, "size": PARTITIONS_MAX}}
    aggregations = {"p": {**newest, "aggs": {"e": {"max": {"field": EPOCH_FIELD}}}}}

    def look() -> Mapping[str, Any]:
        client.indices.refresh(index=index, ignore_unavailable=True)
        found = client.search(index=index, size=0, aggregations=aggregations, ignore_unavailable=True)
        return dict(found.body)

    found = retry_transient(look, index)
    buckets = found.get("aggregations", {}).get("p", {}).get("buckets", ())
    return {b["key"]: Written(int(b["doc_count"]), int(float(b["e"]["value"]))) for b in buckets}


def epochs_of(served: Mapping[str, ServedPartition], written: Mapping[str, Written]) -> dict[str, int]:
    """Partition → epoch of what is served; of one that isn't as its commit record says, an epoch that nobody published.

    An attempt that died wrote some of its documents, deleted some, or took some into another partition: it is computed
    again, whatever its inputs are.
    """
    newest = max([*(s.epoch for s in served.values()), *(w.newest_epoch for w in written.values())], default=0)

    def is_whole(partition: str) -> bool:
        now, then = written.get(partition, Written(0, 0)), served[partition]
        return now.newest_epoch <= then.epoch and now.documents == then.rows

    return {p: s.epoch if is_whole(p) else newest + 1 for p, s in served.items()}


def foreign_documents(client: "Elasticsearch", target: str) -> list[str]:
    """Documents of no partition, in words."""
    index = documents(target)
    count = retry_transient(lambda: client.count(index=index, query=NOTHING, ignore_unavailable=True)["count"], index)
    return [f"{count} documents of no partition in {index}"] if count else []
