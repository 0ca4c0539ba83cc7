"""Land objects of a source bucket in the raw zone: copied inside of the server, else streamed part by part."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from etl_resources.extract.object_stream import ObjectStream, unless_changed
from etl_resources.extract.raw_zone import RawObject, RawZone, marker_of
from etl_resources.extract.source_bucket import ListedObject, SourceBucket
from etl_resources.object_store import bucket_and_key
from etl_resources.retries import retry_transient, with_retries_of_here

LANDED_AT_ONCE = 4
"""Objects in flight; each streamed one holds one part in memory."""
COPY_MAX_BYTES = 5 * 1024**3
"""Largest object of one CopyObject; S3 takes no more."""
PART_BYTES = 16 * 1024**2
COPIED_PART_BYTES = 1024**3
PARTS_MAX = 10_000


def marker(found: ListedObject) -> str:
    """What tells this content of a key from any other."""
    return marker_of(found.key, found.etag, found.size_bytes, found.version_id or "")


def land(bucket: SourceBucket, objects: Sequence[ListedObject], zone: RawZone) -> list[RawObject]:
    """Raw copies in the order of `objects`; those that any run landed already are left as they are.

    Each is exactly the listed version. Raises RestartError when one was replaced meanwhile.
    """
    missing = [o for o in objects if (o.key, marker(o)) not in zone.landed]

    def one(found: ListedObject) -> RawObject:
        landing = _Landing(bucket, found, zone.store.client, zone.place(found.key, marker(found)))
        if not bucket.of_platform:
            landing.stream()
        elif found.size_bytes <= COPY_MAX_BYTES:
            landing.copy()
        else:
            landing.copy_parts()
        return zone.remember(found.key, marker(found), found.size_bytes)

    with ThreadPoolExecutor(LANDED_AT_ONCE) as pool:
        for _ in pool.map(with_retries_of_here(one), missing):
            pass
    return [zone.landed[o.key, marker(o)] for o in objects]


class _Landing:
    """One object on its way. A half of it is never seen: S3 shows what is completed."""

    def __init__(self, bucket: SourceBucket, found: ListedObject, target: Any, place: str) -> None:
        self._source, self._found, self._target = bucket, found, target
        self._what = bucket.path(found.key)
        target_bucket, target_key = bucket_and_key(place)
        self._place = {"Bucket": target_bucket, "Key": target_key}

    def copy(self) -> None:
        self._request(self._target.copy_object, **self._copied())

    def copy_parts(self) -> None:
        size = self._part_bytes(COPIED_PART_BYTES)
        self._in_parts(
            lambda part, start: {
                "call": self._target.upload_part_copy,
                **self._copied(),
                "CopySourceRange": f"bytes={start}-{min(start + size, self._found.size_bytes) - 1}",
                "PartNumber": part,
            },
            range(0, self._found.size_bytes, size),
        )

    def stream(self) -> None:
        with ObjectStream(self._source.client, self._version(), self._found.size_bytes, self._what) as stream:
            size = self._part_bytes(PART_BYTES)
            if self._found.size_bytes <= size:
                self._request(self._target.put_object, Body=stream.read(size))
                return

            def bodies() -> Iterator[bytes]:
                while body := stream.read(size):
                    yield body

            self._in_parts(
                lambda part, body: {"call": self._target.upload_part, "Body": body, "PartNumber": part}, bodies()
            )

    def _in_parts(self, request: Any, parts: Any) -> None:
        """One multipart upload, a part at a time; what fails leaves none behind."""
        from botocore.exceptions import BotoCoreError, ClientError

        upload = {"UploadId": self._request(self._target.create_multipart_upload)["UploadId"]}
        try:
            done = []
            for number, part in enumerate(parts, start=1):
                details = request(number, part)
                answer = self._request(details.pop("call"), **upload, **details)
                etag = answer.get("CopyPartResult", answer)["ETag"]
                done.append({"ETag": etag, "PartNumber": number})
            self._complete(**upload, MultipartUpload={"Parts": done})
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # what stays is aborted by maintenance
                self._target.abort_multipart_upload(**self._place, **upload)
            raise

    def _complete(self, **upload: Any) -> None:
        """An upload that is gone was completed by a request whose answer was lost, if the object is there."""
        from botocore.exceptions import ClientError

        try:
            self._request(self._target.complete_multipart_upload, **upload)
        except ClientError as e:
            if e.response.get("Error", {}).get("Code") != "NoSuchUpload":
                raise
            if self._request(self._target.head_object)["ContentLength"] != self._found.size_bytes:
                raise

    def _request(self, call: Any, **details: Any) -> Any:
        request = {**self._place, **details}
        return retry_transient(lambda: unless_changed(lambda: call(**request), self._what), self._what)

    def _version(self) -> dict[str, Any]:
        if self._found.version_id:
            return {"Bucket": self._source.bucket, "Key": self._found.key, "VersionId": self._found.version_id}
        return {"Bucket": self._source.bucket, "Key": self._found.key, "IfMatch": self._found.etag}

    def _copied(self) -> dict[str, Any]:
        version = self._version()
        condition = {"CopySourceIfMatch": version.pop("IfMatch")} if "IfMatch" in version else {}
        return {"CopySource": version, **condition}

    def _part_bytes(self, least: int) -> int:
        return max(least, -(-self._found.size_bytes // PARTS_MAX))
