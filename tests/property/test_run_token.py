"""The run token: one name for one computation, whatever the order, another for any other (M7)."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from etl_resources.run_token import InputVersion, run_token

WORD = st.text(max_size=4) | st.sampled_from(["a", "b", "", ",", '"', "a,b", "[", "é"])
INPUT = st.builds(InputVersion, WORD, WORD, WORD, st.integers(0, 9))
IDENTITY = st.fixed_dictionaries({"tenant": WORD, "asset": WORD, "partition": WORD, "logic_version": WORD})


@given(identity=IDENTITY, inputs=st.lists(INPUT, max_size=5), order=st.randoms(use_true_random=False))
def test_the_order_of_inputs_does_not_matter(identity: dict[str, str], inputs: list[InputVersion], order: Any) -> None:
    """Two machines read a mapping in different orders and must plan the same."""
    shuffled = list(inputs)
    order.shuffle(shuffled)
    assert run_token(**identity, inputs=shuffled) == run_token(**identity, inputs=iter(inputs))


@given(identity=IDENTITY, inputs=st.lists(INPUT, max_size=4), data=st.data())
def test_any_other_identity_has_another_token(
    identity: dict[str, str], inputs: list[InputVersion], data: st.DataObject
) -> None:
    """A change that keeps the token is never computed."""
    field = data.draw(st.sampled_from(sorted(identity)))
    value = data.draw(WORD.filter(lambda v: v != identity[field]))
    assert run_token(**{**identity, field: value}, inputs=inputs) != run_token(**identity, inputs=inputs)


@given(identity=IDENTITY, inputs=st.lists(INPUT, min_size=1, max_size=4), data=st.data())
def test_any_other_input_version_has_another_token(
    identity: dict[str, str], inputs: list[InputVersion], data: st.DataObject
) -> None:
    """One input's asset, partition or version; one input less or more."""
    at = data.draw(st.integers(0, len(inputs) - 1))
    field = data.draw(st.sampled_from(["asset", "partition", "version"]))
    value = data.draw(WORD.filter(lambda v: v != getattr(inputs[at], field)))
    changed = [*inputs[:at], replace(inputs[at], **{field: value}), *inputs[at + 1 :]]
    token = run_token(**identity, inputs=inputs)
    assert run_token(**identity, inputs=changed) != token
    assert run_token(**identity, inputs=inputs[:at] + inputs[at + 1 :]) != token


@given(parts=st.lists(WORD, min_size=4, max_size=4), other=st.lists(WORD, min_size=4, max_size=4))
def test_words_do_not_run_into_each_other(parts: list[str], other: list[str]) -> None:
    """('ab', 'c') is not ('a', 'bc'): tenants may choose their names."""
    names = ("tenant", "asset", "partition", "logic_version")
    one, two = (run_token(**dict(zip(names, words, strict=True)), inputs=()) for words in (parts, other))
    assert (one == two) == (parts == other)
