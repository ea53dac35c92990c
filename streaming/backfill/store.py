"""Backfills as folders, `PAYWAVE_HOME/backfills/NAME/`: plan, state, lock, journal of the chunk at work.

Belongs here: those files. Does not: what is in them (`plan.py`, `state.py`).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lakehouse.whole_file import create_file, replace_file
from streaming.backfill.errors import AlreadyRunning, EditedPlan, Refused, UnknownBackfill, WrongPlan
from streaming.backfill.estimate import measured_factor
from streaming.backfill.plan import Plan, approved_by, check_name, parse, render
from streaming.backfill.state import State

_TRIES = 10


class Backfill:
    """One backfill's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def plan_path(self) -> Path:
        """The file that people review."""
        return self.folder / "plan.json"

    def plan(self) -> Plan:
        """Read the plan. Raises `WrongPlan` or `EditedPlan` for what is not what was written."""
        return parse(self.plan_path.read_text())

    def state(self) -> State:
        """Read how far it is."""
        try:
            return State.from_json(json.loads(self._state_path.read_text()))
        except FileNotFoundError:
            return State(uuid.uuid4().hex[:12])

    def save_plan(self, plan: Plan) -> None:
        """Write the plan, all or nothing."""
        replace_file(self.plan_path, render(plan))

    def save_state(self, state: State) -> None:
        """Write how far it is, all or nothing."""
        replace_file(self._state_path, json.dumps(state.as_json(), indent=1))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that runs this backfill; the lock ends with the process, however that ends.

        Raises `AlreadyRunning`.
        """
        with self._lock_path.open("a+") as lock:
            if not _taken_soon(lock.fileno()):
                lock.seek(0)
                name, process = self.folder.name, lock.read().strip() or "unknown"
                raise AlreadyRunning(
                    f"backfill {name} is being run by process {process}",
                    f"wait for it, or stop it; `paywave backfill status {name}` says how far it is",
                )
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def is_running(self) -> bool:
        """Tell whether a process runs it now."""
        try:
            with self._lock_path.open() as lock:
                return not _taken(lock.fileno())
        except FileNotFoundError:
            return False

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.json"

    @property
    def _lock_path(self) -> Path:
        return self.folder / "lock"


class Store:
    """All backfills of a home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Name them, in order."""
        return sorted(path.parent.name for path in self._folder.glob("*/plan.json"))

    def find(self, name: str) -> Backfill:
        """Find one by its name. Raises `UnknownBackfill`."""
        found = Backfill(self._folder / check_name(name))
        if not found.plan_path.exists():
            raise UnknownBackfill(
                f"there is no backfill {name!r}",
                f"there are: {', '.join(self.names()) or 'none'}; make one: `paywave backfill plan`",
            )
        return found

    def has(self, name: str) -> bool:
        """Tell whether there is one of this name."""
        return Backfill(self._folder / check_name(name)).plan_path.exists()

    def add(self, plan: Plan) -> Backfill:
        """Keep a new plan. Raises `WrongPlan` where there is one of its name."""
        found = Backfill(self._folder / check_name(plan.name))
        try:
            create_file(found.plan_path, render(plan))
        except FileExistsError:
            raise WrongPlan(
                f"there is a backfill {plan.name} already",
                f"choose another --name; `paywave backfill status {plan.name}` says how far that one is",
            ) from None
        return found

    def take(self, path: Path) -> Backfill:
        """Take a plan's file in, once; from then on the file must stay what it was, but for the approver.

        Raises `WrongPlan` and `EditedPlan`.
        """
        try:
            plan = parse(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise WrongPlan(
                f"the file {path} cannot be read: {error}", "give a plan's name or file"
            ) from None
        if not self.has(plan.name):
            return self.add(plan)
        found = self.find(plan.name)
        kept = found.plan()
        if kept.digest != plan.digest:
            raise EditedPlan(
                f"backfill {plan.name}: the file {path} is another plan than the one that was taken in",
                "make a new plan under another name and have it reviewed",
            )
        if kept.approver is None and plan.approver is not None:
            found.save_plan(approved_by(kept, plan.approver))
        return found

    def factor(self) -> float:
        """Tell by how much the rates were wrong in the latest backfill that is done; 1 where none is."""
        done = []
        for name in self.names():
            state = self.find(name).state()
            if state.finished_at is not None:
                done.append((state.finished_at, name, state.seconds))
        for _, name, seconds in sorted(done, reverse=True):
            with suppress(Refused):  # its plan was edited since
                return measured_factor(self.find(name).plan().estimate.by_rates, seconds / 60)
        return 1.0


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan to a file of anybody's choice. Raises `WrongPlan` where there is one already."""
    try:
        create_file(path, render(plan))
    except FileExistsError:
        raise WrongPlan(f"the file {path} is there already", "choose another --file") from None


def _taken_soon(descriptor: int) -> bool:
    """Take a lock that is free, or is let go in a moment: whoever looks at it takes it for that long."""
    for _ in range(_TRIES):
        if _taken(descriptor):
            return True
        time.sleep(0.05)
    return False


def _taken(descriptor: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
