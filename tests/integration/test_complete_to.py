"""Complete up to: what raw says of itself, against the real Kafka."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lakehouse.definitions import RAW
from lakehouse.offsets import OffsetVector
from lakehouse.refs import read_head
from streaming.completeness import CLOCKS, complete_to
from streaming.topic_state import first_offsets_after, inspect_topic
from tests.events import wire_now
from tests.pipeline import Pipeline

pytestmark = pytest.mark.integration


def test_the_ladder_on_a_real_topic(pipeline: Pipeline) -> None:
    kafka = pipeline.settings.kafka_properties()
    pipeline.send_lines(wire_now(f"e{n}", account_id=f"a{n}") for n in range(40))
    pipeline.run_raw()
    times = {(r["partition"], r["offset"]): r["kafka_ts"] for r in pipeline.rows(RAW)}
    state = inspect_topic(kafka, pipeline.topic)
    for moment in sorted(times.values())[::10]:
        for partition, first in first_offsets_after(kafka, state, moment).items():
            later = [offset for (p, offset), t in times.items() if p == partition and t > moment]
            assert first == min(later, default=None)
    assert complete_to(kafka, state, state.latest) >= state.asked_at - CLOCKS - timedelta(milliseconds=1)
    one_short = {partition: end - 1 for partition, end in state.latest.items()}
    found = complete_to(kafka, state, one_short)
    assert found is not None
    assert found < min(t for (p, offset), t in times.items() if offset == one_short[p])


def test_raw_stamps_a_time_that_holds_and_never_goes_back(pipeline: Pipeline) -> None:
    kafka, stamped = pipeline.settings.kafka_properties(), []
    for batch in range(2):
        pipeline.send_lines(wire_now(f"e{batch}-{n}", account_id=f"a{n}") for n in range(40))
        pipeline.run_raw()
        stamp = read_head(pipeline.catalog, RAW).progress
        assert stamp.progress is not None
        assert stamp.complete_to is not None
        state = inspect_topic(kafka, pipeline.topic)
        ends = first_offsets_after(kafka, state, stamp.complete_to)
        held = OffsetVector({state.topic_id: {p: o for p, o in ends.items() if o is not None}})
        assert stamp.progress.covers(held)
        stamped.append(stamp.complete_to)
    assert stamped == sorted(stamped)
