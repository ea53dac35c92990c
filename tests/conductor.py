"""A real `paywave ui` as tests drive it: started on a pipeline's home, asked over GraphQL, stopped or killed.

Belongs here: driving it and reading what it knows. Does not: what must hold (`integration/`, `faults/`).
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from local.ports import free_port
from tests.commands import Running
from tests.pipeline import Pipeline

SECONDS = 300.0
_RUNS = """{runsOrError(limit: 100) {... on Runs {results {
  runId parentRunId status tags {key value} assetSelection {path} assetCheckSelection {name}}}}}"""
_LAUNCH = """mutation($params: ExecutionParams!) {launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess {run {runId}} ... on InvalidSubsetError {message}
  ... on PythonError {message}}}"""
_SELECTOR = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "paywave",
    "pipelineName": "__ASSET_JOB",
}


class Run(NamedTuple):
    """A run as Dagster knows it; `parent`: the run that it is another try of."""

    id: str
    parent: str | None
    status: str
    tags: dict[str, str]
    assets: frozenset[str]


class Conductor:
    """One `paywave ui`, which serves once this returns; `end` leaves nothing of it behind."""

    def __init__(self, pipeline: Pipeline, folder: Path, **settings: str) -> None:
        self.environment = pipeline.environment() | settings
        self._folder = folder
        self.process = self.start()
        try:
            self.wait_until(lambda: bool(self.process.printed), "it serves")
        except BaseException:
            self.end()
            raise
        said = json.loads(self.process.printed)
        self.url: str = said["url"]
        self.pids: dict[str, int] = said["pids"]

    def start(self) -> Running:
        """Start the command, and do not wait."""
        arguments = ("ui", "--port", str(free_port()), "--output", "json")
        return Running(*arguments, folder=self._folder, environment=self.environment)

    def end(self) -> None:
        self.process.end()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What GraphQL answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert not found.get("errors"), found["errors"]
        data: dict[str, Any] = found["data"]
        return data

    def runs(self) -> list[Run]:
        """The newest runs, newest first."""
        found = self.ask(_RUNS)["runsOrError"]["results"]
        return [
            Run(
                run["runId"],
                run["parentRunId"],
                run["status"],
                {tag["key"]: tag["value"] for tag in run["tags"]},
                frozenset("/".join(asset["path"]) for asset in run["assetSelection"] or ()),
            )
            for run in found
        ]

    def run(self, run_id: str) -> Run:
        return next(run for run in self.runs() if run.id == run_id)

    def launch(self, *assets: str, checked: bool = True, **tags: str) -> str:
        """Launch a run that materializes assets, as the pages do, with their checks. Returns its id."""
        selected: dict[str, Any] = {"assetSelection": [{"path": asset.split("/")} for asset in assets]}
        if not checked:
            selected["assetCheckSelection"] = []
        params = {
            "selector": {**_SELECTOR, **selected},
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": f"dagster/{k}", "value": v} for k, v in tags.items()]},
        }
        found = self.ask(_LAUNCH, params=params)["launchPipelineExecution"]
        assert found["__typename"] == "LaunchRunSuccess", found
        return str(found["run"]["runId"])

    def tries_of(self, run_id: str) -> list[Run]:
        """A run and those that try it again, oldest first."""
        runs = self.runs()
        found = [next(run for run in runs if run.id == run_id)]
        while again := [run for run in runs if run.parent == found[-1].id]:
            found += again
        return found

    def logs_of(self, run_id: str) -> str:
        """What a run's log says, for a test that fails."""
        query = """query($id: ID!) {logsForRun(runId: $id) {... on EventConnection {events {
          ... on MessageEvent {message}}}}}"""
        events = self.ask(query, id=run_id)["logsForRun"]["events"]
        return "\n".join(event.get("message", "") for event in events)

    def wait_until(
        self, what: Callable[[], bool], name: str, look: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for something that must come about; `look` is called all the while."""
        deadline = time.monotonic() + SECONDS
        while not what():
            assert self.process.is_alive, self.process.said
            assert time.monotonic() < deadline, f"waited in vain until {name}: {self.process.said}"
            look()
            time.sleep(0.2)
