"""Alerts: why a command failed reaches who is told of it, and a webhook that hiccups loses none."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import notify
from assets.lake import Lake
from assets.notify import Notifier
from assets.work import Work
from config.errors import ConfigError
from config.settings import load_settings
from tests.failed_runs import tell_of


class Hook(HTTPServer):
    """Answers with these codes in turn, then 200; keeps what was sent."""

    def __init__(self, codes: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.codes, self.bodies = codes, list[dict[str, Any]]()


class _Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.codes.pop(0) if self.server.codes else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hook]:
    monkeypatch.setattr(notify, "_PAUSES", (0.0, 0.0))
    with Hook([]) as found:
        monkeypatch.setenv("PAYWAVE_CONDUCTOR__WEBHOOK_URL", f"http://127.0.0.1:{found.server_port}/")
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def notifier(home: Path) -> Notifier:
    return Notifier(lake=Lake(home=str(home)))


def test_an_alert_is_sent_again_where_the_webhook_does_not_take_it(hook: Hook, tmp_path: Path) -> None:
    hook.codes = [503, 500]
    notifier(tmp_path).tell("late", "an hour is late", hour="2026-11-20T12")
    assert hook.bodies == [{"alert": "late", "text": "an hour is late", "hour": "2026-11-20T12"}] * 3


@pytest.mark.parametrize(("code", "times"), [(503, 3), (204, 1)])
def test_a_report_that_fails_does_not_fail_what_is_reported(
    hook: Hook, tmp_path: Path, code: int, times: int
) -> None:
    hook.codes = [code] * 9
    notifier(tmp_path).tell("late", "x")
    assert len(hook.bodies) == times


def test_nobody_there_is_no_error_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "_PAUSES", ())
    monkeypatch.setenv("PAYWAVE_CONDUCTOR__WEBHOOK_URL", "http://127.0.0.1:1/")
    notifier(tmp_path).tell("late", "x")


def test_a_webhook_without_a_scheme_is_refused_with_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https://"):
        load_settings(home=tmp_path, conductor={"webhook_url": "hooks.example/x"})


def told_of(home: Path, command: list[str], tags: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Run a command as an op does, and list what people are told of its failure."""
    told: list[tuple[str, dict[str, str]]] = []

    class Told(Notifier):
        def tell(self, what: str, text: str, **details: str) -> None:
            told.append((text, details))

    @dg.op
    def works(context: dg.OpExecutionContext) -> None:
        Work(lake=Lake(home=str(home))).run(context, command)

    @dg.job(tags=tags)
    def job() -> None:
        works()

    with dg.instance_for_test() as instance:
        result = job.execute_in_process(raise_on_error=False, instance=instance)
        tell_of(result, instance, Told(lake=Lake(home=str(home))))
    return told


def test_people_are_told_what_the_command_said(tmp_path: Path) -> None:
    ((text, details),) = told_of(tmp_path, ["backfill", "run"], {"paywave/runbook": "docs/x.md"})
    assert text == (
        "run of job failed: works: `paywave backfill run` failed: give the name or file of a plan, or --hour"
    )
    assert details["runbook"] == "docs/x.md"
    assert "launch it again" in details["next"]


def test_of_a_run_that_comes_again_nobody_has_to_launch_it(tmp_path: Path) -> None:
    ((_, details),) = told_of(tmp_path, ["backfill", "run"], {"dagster/will_retry": "true"})
    assert "by itself" in details["next"]
