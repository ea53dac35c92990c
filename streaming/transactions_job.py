"""The transactions job: curated.transactions follows curated.payments, some minutes behind.

Belongs here: when it folds, and its publish. Does not: what is folded (`transactions_fold.py`), the rules
(`lakehouse/transactions_sql.py`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from opentelemetry import metrics, trace
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession

from lakehouse.definitions import PAYMENTS, TRANSACTIONS
from lakehouse.publish import Plan, Publisher
from lakehouse.refs import Head, read_head
from lakehouse.turns import drop_abandoned
from streaming.transactions_fold import TransactionsFold

WRITER = "transactions"
ABANDONED_SECONDS = 3600.0
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_changed = metrics.get_meter(__name__).create_counter("paywave.transactions.changed", unit="{transaction}")


@dataclass(frozen=True)
class TransactionsSettings:
    """What the job needs to know: the tables' buckets, the pause between folds, payments held at once."""

    buckets: int
    poll_seconds: float = 60.0
    at_a_time: int = 5_000_000


class TransactionsJob:
    """Folds what changed in payments since its last publish, again and again or `once`.

    Stateless: the stamp of its last publish names the payments' snapshot that it folded. What is published
    is always the fold of one snapshot of payments, whole.
    """

    def __init__(self, catalog: RestCatalog, spark: SparkSession, settings: TransactionsSettings) -> None:
        self._catalog = catalog
        self._spark = spark
        self._settings = settings
        self._publisher = Publisher(catalog, WRITER)
        self._stopping = threading.Event()
        self.changed: Counter[str] = Counter()

    def stop(self) -> None:
        """Ask the job to end after the fold at hand; safe from a signal handler."""
        self._stopping.set()

    def run(
        self,
        once: bool = False,
        rebuild: bool = False,
        report: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Counter[str]:
        """Run.

        Args:
            once: fold what payments hold now, then return.
            rebuild: let the first fold be of everything, whatever has changed: after a change of the rules.
            report: called with the buckets done and to do of the fold at hand.

        Returns:
            How many transactions it did `insert`, `update` and `delete`.
        """
        self._stopping.clear()
        drop_abandoned(self._catalog, TRANSACTIONS, WRITER, ABANDONED_SECONDS)
        while not self._stopping.is_set():
            self._step(rebuild, report)
            if once:
                break
            rebuild = False
            self._stopping.wait(self._settings.poll_seconds)
        return self.changed

    def _step(self, rebuild: bool, report: Callable[[int, int], None]) -> None:
        folds: list[TransactionsFold] = []

        def build(head: Head) -> Plan | None:
            payments = read_head(
                self._catalog, PAYMENTS
            )  # anew for each attempt: never go back behind another
            if not rebuild and head.progress.source_snapshot == payments.snapshot.snapshot_id:
                return None
            settings = self._settings
            folds.append(
                TransactionsFold(self._spark, payments, settings.buckets, settings.at_a_time, report)
            )
            return folds[-1].plan(head, rebuild)

        with _tracer.start_as_current_span("transactions.fold"):
            if self._publisher.publish(TRANSACTIONS, build) is None:
                return
        done = folds[-1].changed
        self.changed.update(done)
        for change, count in done.items():
            _changed.add(count, {"change": change})
        _log.info("folded transactions", **done)
