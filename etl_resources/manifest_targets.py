"""Where a dataset's last layer may be served: the vocabulary of `serving` and of `allowed_targets`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from etl_resources.manifest_types import Identifier, QualifiedName, Strict, TargetPattern


class Target(Strict):
    """What the targets of every store say."""

    store: ClassVar[str]
    """The field that names the place: it begins the asset's name."""
    load: Literal["replace", "upsert"] = Field(default="replace", description="Whole partitions, or rows.")
    key: tuple[Identifier, ...] | None = Field(
        default=None, min_length=1, description="Omitted: the key of the dataset's last layer."
    )

    @property
    def place(self) -> str:
        """Name of the table or index."""
        place: str = getattr(self, self.store)
        return place


class PostgresTarget(Target):
    """A served table; its columns are those of the dataset's last layer."""

    store = "postgres"
    postgres: QualifiedName = Field(description="Table; platform.yaml's allowed_targets must name it (C8).")


class ElasticsearchTarget(Target):
    """A served index, a document per row; its strict mapping comes from the contract of the dataset's last layer."""

    store = "elasticsearch"
    elasticsearch: Identifier = Field(
        description="Alias that readers search; platform.yaml's allowed_targets must name it (C8)."
    )


def _of_its_store(value: Any) -> Any:
    """By the store that it names, so that an error tells about that store's fields and not about each store's."""
    if not isinstance(value, Mapping):
        return value
    kind = ElasticsearchTarget if "elasticsearch" in value else PostgresTarget
    return kind.model_validate(value)


AnyTarget = Annotated[
    PostgresTarget | ElasticsearchTarget,
    BeforeValidator(_of_its_store, json_schema_input_type=PostgresTarget | ElasticsearchTarget),
]


class AllowedTargets(Strict):
    """Where data may be served (C8)."""

    postgres: tuple[TargetPattern, ...] = Field(description="Tables that may be written, or whole schemas.")
    elasticsearch: tuple[Identifier, ...] = Field(default=(), description="Indexes that may be written.")

    def allow(self, target: Target) -> bool:
        """Whether a target may be written."""
        of_store = self.of_store(target.store)
        return target.place in of_store or f"{target.place.partition('.')[0]}.*" in of_store

    def of_store(self, store: str) -> tuple[str, ...]:
        """What is allowed in a store."""
        allowed: tuple[str, ...] = getattr(self, store)
        return allowed
