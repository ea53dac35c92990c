"""`paywave partners`: the registry of partners. Belongs here: options, looks. Does not: the checks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cli.output import Output, with_output
from config.settings import Settings, load_settings
from streaming.errors import RegistryError
from streaming.partners.check import Finding, check_registry
from streaming.partners.keys import secrets_of
from streaming.partners.registry import REGISTRY, Partner, load_registry


@click.group()
def partners() -> None:
    """Who may send us events: the registry of partners, a reviewed file."""


@partners.command("list")
@click.option("--registry", type=click.Path(dir_okay=False, path_type=Path), help="Another registry's file.")
@with_output
def list_partners(registry: Path | None, out: Output) -> None:
    """List the partners: source, rate, keys and where their secrets come from, card-number policy."""
    found = load_registry(registry or registry_file(load_settings())).partners
    rows = [{"partner": name, **_row(partner)} for name, partner in found.items()]
    out.result({"partners": rows}, lambda console: _show_list(console, rows))


@partners.command()
@click.option("--registry", type=click.Path(dir_okay=False, path_type=Path), help="Another registry's file.")
@click.option("--secrets", is_flag=True, help="Look for the secrets too, where they are to be used.")
@with_output
def check(registry: Path | None, secrets: bool, out: Output) -> None:
    """Check the registry: the file itself, profiles, and that sample files become good events."""
    settings = load_settings()
    path = registry or registry_file(settings)
    found = load_registry(path)
    findings = check_registry(found, path.parent)
    missing = None
    if secrets:
        try:
            secrets_of(found, settings.dev_keys)
        except RegistryError as error:
            missing = str(error)
    ok = missing is None and not any(finding.problems for finding in findings)
    value = {"ok": ok, "registry": str(path), "secrets": missing, "partners": [f._asdict() for f in findings]}
    out.result(value, lambda console: _show_check(console, findings, missing))
    sys.exit(0 if ok else 1)


def registry_file(settings: Settings) -> Path:
    """The registry's file that the settings name, else the one that ships with the project."""
    return settings.partners.registry or REGISTRY


def _row(partner: Partner) -> dict[str, Any]:
    keys = [{"id": key.id, "secret": str(key.secret)} for key in partner.keys]
    wanted = {"source", "description", "contacts", "rate", "burst", "card_numbers", "active", "profile"}
    return {**partner.model_dump(mode="json", include=wanted), "keys": keys}


def _show_list(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table("partner", "source", "events/s", "card numbers", "profile", "keys", box=None)
    for row in rows:
        name = row["partner"] if row["active"] else f"{row['partner']} (not active)"
        keys = ", ".join(key["id"] for key in row["keys"])
        table.add_row(
            name, row["source"], f"{row['rate']:,.0f}", row["card_numbers"], row["profile"] or "-", keys
        )
    console.print(table)


def _show_check(console: Console, findings: list[Finding], missing: str | None) -> None:
    for finding in findings:
        said = f"samples gave {finding.events:,} good events" if finding.events else "no samples"
        console.print(f"{finding.partner}: {'ok, ' + said if not finding.problems else ''}", markup=False)
        for problem in finding.problems:
            console.print(f"  {problem}", markup=False, soft_wrap=True)
    if missing:
        console.print(missing, markup=False, soft_wrap=True)
