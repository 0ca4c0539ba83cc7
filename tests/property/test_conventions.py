"""The path of a data file is where readers of a table learn its epoch: it must survive any name."""

from hypothesis import given
from hypothesis import strategies as st

from etl_resources.conventions import LAYERS, parse_staged_path, staged_folder, table_location, table_name

datasets = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
months = st.builds("{:04d}-{:02d}".format, st.integers(1970, 9999), st.integers(1, 12))
tokens = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.sampled_from(LAYERS), datasets, months, st.integers(1, 2**62), tokens)
def test_a_staged_path_gives_back_what_it_was_made_of(
    layer: str, dataset: str, partition: str, epoch: int, token: str
) -> None:
    """A path that parses to another epoch would let an old writer win."""
    folder = staged_folder(table_location("bucket", layer, dataset), partition, epoch, token)
    assert parse_staged_path(f"{folder}/part-0.parquet") == (partition, epoch, token[:16])


@given(st.lists(st.tuples(st.sampled_from(LAYERS[1:]), datasets), min_size=2, max_size=2, unique=True))
def test_two_layers_of_one_dataset_never_share_a_table(pair: list[tuple[str, str]]) -> None:
    """silver, gdp and kpi share a database: the layer in the name keeps them apart."""
    (layer, dataset), (other, _) = pair
    assert layer == other or table_name(layer, dataset) != table_name(other, dataset)
