"""A manifest from a catalog entry: what is decided, what is asked, and that the result is valid at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from project_edits import PLATFORM, edit, project

from etl_assets import manifest_draft
from etl_assets.manifest_draft import DraftRequest, draft_manifest
from etl_assets.project import load_project
from etl_resources.errors import PermanentError
from etl_resources.introspect import TableColumn, TableDescription, manifest_type

__all__ = ["project"]  # a fixture is used by its name


def column(name: str, kind: str, *, nullable: bool = False, description: str | None = None) -> TableColumn:
    return TableColumn(name, kind, *manifest_type(kind), nullable, description)


INVOICES = (
    column("invoice_id", "bigint"),
    column("amount", "numeric(12,2)", description='Total, "gross"'),
    column("null", "text", nullable=True),
    column("issued_on", "date"),
    column("updated_at", "timestamp with time zone"),
)


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> list[TableColumn]:
    """The columns of erp.invoices, which a test may change; no server."""
    columns = list(INVOICES)

    @contextmanager
    def open_source(*_: object, **__: object) -> Iterator[None]:
        yield None

    def describe(_: object, name: str) -> TableDescription:
        return TableDescription(name, None, tuple(columns), ("invoice_id",))

    monkeypatch.setenv("ERP_DSN", "postgresql://nobody@localhost/none")
    monkeypatch.setattr(manifest_draft, "open_source", open_source)
    monkeypatch.setattr(manifest_draft, "describe_table", describe)
    return columns


def request(**changes: object) -> DraftRequest:
    return DraftRequest(**{"dataset": "invoices", "table": "erp.invoices", "owner": "team:a", **changes})  # type: ignore[arg-type]


def test_the_result_is_valid_at_once(project: Path, catalog: list[TableColumn]) -> None:
    """U2: nothing has to be edited before the first run."""
    assert catalog
    text, notes = draft_manifest(project, request())
    (project / "datasets" / "invoices").mkdir()
    (project / "datasets" / "invoices" / "manifest.yaml").write_text(text)
    loaded = load_project(project)
    contract = loaded.tables["silver.invoices"].contract
    assert [(c.name, c.type, c.nullable) for c in contract.columns] == [
        ("invoice_id", "bigint", False),
        ("amount", "decimal(12,2)", False),
        ("null", "string", True),
        ("issued_on", "date", False),
        ("updated_at", "timestamptz", False),
    ]
    assert contract.columns[1].description == 'Total, "gross"'
    source = loaded.datasets["invoices"].source
    assert source is not None
    assert (source.change_column, source.key) == ("updated_at", ("invoice_id",))
    assert contract.partition_column == "issued_on"
    assert notes == ["change_column is updated_at: keep it only if the database itself sets it"]


def test_a_table_without_partitions_is_read_whole(project: Path, catalog: list[TableColumn]) -> None:
    """Reference data may have no date; its manifest is valid at once as well."""
    del catalog[3]
    text, _ = draft_manifest(project, request(whole=True))
    (project / "datasets" / "invoices").mkdir()
    (project / "datasets" / "invoices" / "manifest.yaml").write_text(text)
    dataset = load_project(project).datasets["invoices"]
    assert dataset.partitions is None
    assert dataset.source is not None
    assert dataset.source.extract == "full"
    with pytest.raises(PermanentError, match=r"Or --whole, for a table without partitions\.$"):
        draft_manifest(project, request())


def test_columns_without_a_type_are_named_all(project: Path, catalog: list[TableColumn]) -> None:
    """Each has its reason, and there is a way on."""
    catalog += [column("payload", "jsonb"), column("total", "numeric"), column("Mixed", "text")]
    catalog[-1] = TableColumn("Mixed", "text", None, "rename it", nullable=True, description=None)
    with pytest.raises(PermanentError) as raised:
        draft_manifest(project, request())
    assert str(raised.value) == (
        "erp.invoices: payload (jsonb): no type here holds it: cast in a view, e.g. to text; "
        "total (numeric): numeric without precision may hold anything: give it one, or cast in a view; "
        "Mixed (text): rename it. Or leave these columns out with --skip-unsupported."
    )
    text, _ = draft_manifest(project, request(skip_unsupported=True))
    assert '    # left out: "payload" jsonb: no type here holds it' in text


@pytest.mark.parametrize(
    ("changes", "extra", "message"),
    [
        (
            {},
            [column("paid_on", "date")],
            "2 columns are dates: give --partition-by; valid: issued_on, updated_at, paid_on.",
        ),
        (
            {"partition_by": "issued"},
            [],
            "--partition-by 'issued' is not a date or timestamptz column; did you mean 'issued_on'?",
        ),
        (
            {"partition_by": "amount"},
            [],
            "--partition-by 'amount' is not a date or timestamptz column; valid: issued_on, updated_at.",
        ),
        (
            {"key": ("invoice",)},
            [],
            "--key 'invoice' is not among the columns; did you mean 'invoice_id'? Valid: invoice_id,",
        ),
        ({"whole": True, "partition_by": "issued_on"}, [], "--whole means no partitions: leave --partition-by out."),
        ({"system": "crm"}, [], "unknown system 'crm'; valid: erp (platform.yaml)."),
        ({"tenant": "acne"}, [], "unknown tenant 'acne'; did you mean 'acme'? Valid: acme (platform.yaml)."),
    ],
)
def test_what_cannot_be_decided_is_asked(
    project: Path, catalog: list[TableColumn], changes: dict[str, object], extra: list[TableColumn], message: str
) -> None:
    """With the options that would answer it."""
    catalog += extra
    with pytest.raises(PermanentError) as raised:
        draft_manifest(project, request(**changes))
    assert message in str(raised.value)


def test_several_systems_are_asked_for(project: Path, catalog: list[TableColumn]) -> None:
    """With one system nobody has to name it."""
    assert catalog
    edit(project / PLATFORM, "systems: ", "systems: ")
    edit(project / PLATFORM, "  erp: {", '  crm: {kind: postgres, connection: {secret: "env:CRM_DSN"}}\n  erp: {')
    with pytest.raises(PermanentError, match=r"which system\? Give --system; valid: crm, erp \(platform\.yaml\)"):
        draft_manifest(project, request())


def test_rows_without_partition_are_pointed_out(project: Path, catalog: list[TableColumn]) -> None:
    """Silently reading less than the table holds is what this product must not do."""
    catalog[3] = column("issued_on", "date", nullable=True)
    catalog.pop()
    _, notes = draft_manifest(project, request(owner="team:unassigned"))
    assert notes == [
        "owner is team:unassigned: write who answers for it",
        "no column looks stamped on change, so every column is compared; set change_column if one is",
        "issued_on may be null in the source: rows without it belong to no partition and are not read",
    ]


@pytest.mark.parametrize(
    ("postgres", "manifest"),
    [
        ("bigint", "bigint"), ("integer", "int"), ("smallint", "int"), ("text", "string"),
        ("character varying(20)", "string"), ("character varying", "string"), ("character(3)", "string"),
        ("date", "date"), ("timestamp with time zone", "timestamptz"), ("timestamp(3) with time zone", "timestamptz"),
        ("boolean", "boolean"), ("numeric(15,2)", "decimal(15,2)"), ("numeric(38,0)", "decimal(38,0)"),
        ("numeric", None), ("numeric(39,2)", None), ("numeric(3,-2)", None), ("numeric(2,3)", None),
        ("timestamp without time zone", None), ("timestamp(3) without time zone", None), ("jsonb", None),
        ("text[]", None), ("double precision", None), ("uuid", None), ("erp.state", None), ("bytea", None),
    ],
)  # fmt: skip
def test_types_are_mapped_or_refused(postgres: str, manifest: str | None) -> None:
    """What would arrive as a double or without its zone is refused before the first run."""
    found, reason = manifest_type(postgres)
    assert found == manifest
    assert (reason is None) == (manifest is not None)
