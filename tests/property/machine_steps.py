"""How the state machine of test_stateful.py makes a writer do its stages, and what the model says of each."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import event

from etl_assets.graph.runtime import Runtime
from etl_resources.errors import TransientError, UnknownCommitError
from tests.property.published_model import Contents, PublishedModel
from tests.property.tiny_sales import BRONZE, REVENUE, SALES
from tests.property.writers import (
    IN_PUBLISH,
    IN_STAGE,
    STAGES,
    CaptureWriter,
    Died,
    Held,
    TableWriter,
    failing_at,
    writer_of,
)

MAX_HELD = 3
"""Writers that are in the middle of something at once."""


class Steps:
    """Captures and computations, at once or held between two stages."""

    runtime: Runtime
    model: PublishedModel
    held: list[Held]

    def _capture(self, months: Sequence[str], fault: str | None = None, *, hold: bool = False) -> None:
        state = len(self.model.states) - 1
        writer = CaptureWriter(self.runtime, months)
        try:
            with failing_at(fault):
                writer.capture()
        except (Died, UnknownCommitError, TransientError) as e:
            event(f"capture: {type(e).__name__}")
            writer.end()
            return
        contents: dict[str, Contents] = {}
        for asset, table in writer.step.tables.items():
            pins = set().union(*(self.model.pinned[a] for a in BRONZE))
            assert not [o.error for o in table.outcomes if o.error and not (pins and "pinned" in str(o.error))]
            for o in table.outcomes:
                if o.status == "pruned" and o.partition not in pins:
                    same = self.model.states[state].bronze(asset, o.partition)
                    assert self.model.published[asset][o.partition].rows == same, f"{asset} {o.partition} is stale"
            written = [o for o in table.outcomes if o.status in ("published", "unchanged")]
            contents[asset] = {}
            for o in written:
                contents[asset] |= self.model.captured(asset, int(o.metadata["epoch"]), [o.partition], state)
        held = Held(writer, contents)
        if hold and len(self.held) < MAX_HELD:
            self.held.append(held)
        else:
            self._publish_capture(held)

    def _publish_capture(self, held: Held, fault: str | None = None) -> None:
        for n, (asset, contents) in enumerate(held.contents.items()):
            here = fault if n == len(fault or "") % 2 else None  # some faults hit the first table, some the second
            if not self._published(asset, contents, lambda a=asset: held.writer.publish(a), here):
                break
        held.writer.end()

    def _compute(
        self, asset: str, months: Sequence[str], until: str = "published", fault: str | None = None
    ) -> TableWriter:
        writer = writer_of(self.runtime, asset, months)
        if until != "published" and len(self.held) >= MAX_HELD:
            until = "published"
        self._advance(Held(writer, {asset: {}}), fault, until)
        return writer

    def _advance(self, held: Held, fault: str | None, until: str) -> None:
        writer: TableWriter = held.writer
        ((asset, contents),) = held.contents.items()
        while writer.stage != until:
            stage = STAGES[STAGES.index(writer.stage) + 1]
            if stage == "published":
                self._published(asset, contents, writer.publish, fault if fault in IN_PUBLISH else None)
                writer.end()
                return
            try:
                with failing_at(fault if fault in IN_STAGE and stage == "staged" else None):
                    writer.advance()
            except (Died, UnknownCommitError, TransientError) as e:
                event(f"{stage}: {type(e).__name__}")
                writer.end()
                return
            if stage == "planned":
                contents = held.contents[asset] = self.model.planned(asset, writer.plan)
                self._prove_refusals(asset, writer)
            elif stage == "computed":
                contents = held.contents[asset] = self._computed(asset, writer, contents)
        self.held.append(held)

    def _prove_refusals(self, asset: str, writer: TableWriter) -> None:
        for reason in writer.plan.refused.values():
            event(f"refused: {asset}")
            assert "pinned" in reason or (asset == SALES and "different captures" in reason), reason

    def _computed(self, asset: str, writer: TableWriter, contents: Contents) -> Contents:
        """What passed its audit; only a KPI that differs from its control totals may not, and what exchanged rows."""
        good = {c.planned.partition for c in writer.computed_partitions if c.written is not None}
        unacceptable = {m for m, c in contents.items() if asset == REVENUE and not self.model.acceptable(m, c)}
        for c in writer.computed_partitions:
            if c.error is not None and c.planned.partition not in unacceptable:
                linked = set(c.planned.linked) | set(writer.plan.refused)
                assert "exchanged rows with a partition that failed" in str(c.error), c.error
                assert linked, c.error
        assert not good & unacceptable, f"{asset}: published although it differs from the source's totals"
        return {m: c for m, c in contents.items() if m in good}

    def _published(self, asset: str, contents: Contents, publish: Callable[[], Any], fault: str | None) -> bool:
        """Whether the writer got through; the model follows."""
        try:
            with failing_at(fault):
                outcome = publish()
        except Died:
            self.model.publish(asset, contents, recorded=fault == "published, evidence written")
            event(f"publish: died, {fault}")
            return False
        except (TransientError, UnknownCommitError) as e:
            event(f"publish: {type(e).__name__}")
            return False
        won, fenced = self.model.publish(asset, contents)
        found = ({p.partition for p in outcome.published}, set(outcome.fenced)) if outcome else (set(), set())
        assert found == (won, fenced), f"{asset}: published, fenced {found}, expected {won}, {fenced}"
        event(f"publish: {outcome.how if outcome else 'nothing to do'}")
        return True
