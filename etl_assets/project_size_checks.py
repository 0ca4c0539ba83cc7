"""What the sizes, hints and prices of manifests mean to each other and to platform.yaml (M1, M11)."""

from collections.abc import Iterator

from etl_assets.project_files import ProjectFiles
from etl_resources.errors import ManifestError
from etl_resources.manifest import Dataset, Platform
from etl_resources.manifest_file import ManifestFile
from etl_resources.sizes import NEEDS_APPROVAL, REFUSED, allowed_sizes
from etl_resources.suggest import hint

File = ManifestFile[Dataset]


def size_errors(files: ProjectFiles) -> Iterator[ManifestError]:
    """Sizes that don't exist or nobody may run, hints that nothing would follow, prices of what isn't there."""
    platform = files.platform.model
    for file in files.datasets.values():
        runner = file.model.runner
        for name, size in (("size", runner.size), ("up_to", runner.up_to)):
            if size is not None:
                yield from _named(file, platform, name, size)
        yield from _order(file, platform)
        yield from _hints(file, platform)
    for size, prices in platform.prices.per_worker_hour.items() if platform.prices else ():
        at = ("prices", "per_worker_hour", size)
        if size not in platform.sizes:
            yield files.platform.error(f"unknown size {size!r}; {hint(size, platform.sizes)}", *at)
            continue
        for engine in ("spark", "glue"):
            if getattr(prices, engine) is not None and getattr(platform.sizes[size], engine) is None:
                yield files.platform.error(f"size {size!r} has no {engine}: remove its price", *at, engine)


def _named(file: File, platform: Platform, name: str, size: str) -> Iterator[ManifestError]:
    at = ("runner", name)
    if size == NEEDS_APPROVAL:
        yield file.error(REFUSED, *at)
    elif size not in platform.sizes:
        yield file.error(f"unknown size {size!r}; {hint(size, allowed_sizes(platform))} (platform.yaml)", *at)


def _order(file: File, platform: Platform) -> Iterator[ManifestError]:
    runner, order = file.model.runner, list(platform.sizes)
    if runner.up_to in order and runner.size in order and order.index(runner.up_to) <= order.index(runner.size):
        message = f"up_to {runner.up_to!r} isn't larger than size {runner.size!r}: name a larger size, or remove it"
        yield file.error(f"{message} (the order is that of `sizes` in platform.yaml)", "runner", "up_to")


def _hints(file: File, platform: Platform) -> Iterator[ManifestError]:
    runner, dataset = file.model.runner, file.model
    computed = any(layer != "bronze" for layer in dataset.layers)
    distributed = any(size.spark is not None for size in platform.sizes.values())
    for name in ("partition_hint", "shuffle_partition_hint"):
        if getattr(runner, name) is None:
            continue
        if not computed:
            yield file.error(f"{name} is of tables that Spark computes, and {dataset.dataset} has none", "runner", name)
        elif not distributed:
            yield file.error(f"{name} is of Spark, and no size of platform.yaml has `spark`", "runner", name)
    if runner.partition_hint is not None and dataset.kpi is not None:
        message = "partition_hint: a KPI's partition is one file, because it may wait for a person"
        yield file.error(f"{message}; remove it", "runner", "partition_hint")
