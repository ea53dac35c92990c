"""How tests find a real account of Snowflake: by variables, and into a scratch of its own."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from assets.snowflake_account import deployment_of
from config.errors import ConfigError
from local.snowflake import __main__ as stand_in
from snowflake_external.ddl import create
from snowflake_external.errors import Unreachable
from snowflake_external.estate import estate_of
from snowflake_external.resources import Kind
from tests import snowflakes
from tests.snowflakes import LIVE, Snowflake, missing, real_account, scratch

GIVEN = {
    f"{LIVE}{name}": value
    for name, value in {"ACCOUNT": "x-y", "USER": "robot", "PRIVATE_KEY_FILE": "/k.pem", "ROLE": "R"}.items()
}


def test_what_is_missing_is_named() -> None:
    assert missing({}) == [f"{LIVE}{name}" for name in ("HOME", "ACCOUNT", "USER", "PRIVATE_KEY_FILE")]
    assert missing({**GIVEN, f"{LIVE}ROLE": ""}) == [f"{LIVE}HOME"]


@pytest.fixture
def account(tmp_path: Path) -> Snowflake:
    """A real account as a caller would give it."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    (theirs / "paywave.toml").write_text(
        'profile = "aws"\n[kafka]\nbootstrap_servers = "k:9092"\n'
        '[catalog]\nuri = "https://c"\nwarehouse = "s3://b/w"\n'
        '[snowflake]\ncatalog_auth = "bearer"\nbearer_token = "t"\n'
    )
    return real_account({**GIVEN, f"{LIVE}HOME": str(theirs)}, ours)


def test_variables_are_settings_and_the_rest_stands_in_the_file(account: Snowflake, tmp_path: Path) -> None:
    settings = account.settings()
    given = settings.snowflake
    assert (given.account, given.user, given.role) == ("x-y", "robot", "R")
    assert settings.catalog.uri == "https://c"
    assert settings.home == tmp_path / "ours", "what is kept does not go into their folder"


def test_a_scratch_has_a_name_of_its_own_and_all_of_it_is_removed(
    account: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[str] = []

    class Session:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None: ...

        def ask(self, text: str) -> None:
            dropped.append(text)
            if "ROLE" in text:
                raise Unreachable("gone")

    monkeypatch.setattr(snowflakes, "Session", Session)
    with pytest.raises(AssertionError, match=r"left behind in the account.*ROLE"), scratch(account) as one:
        assert one.prefix != account.prefix
        assert one.settings().snowflake.warehouse == f"{one.prefix}_READERS"
    assert all(one.prefix in text for text in dropped)
    kinds = [text.split(" IF EXISTS")[0] for text in dropped]
    assert kinds[:2] == ["DROP DATABASE"] * 2, "with all that is in them, before what they stand on"
    assert kinds[-2:] == ["DROP WAREHOUSE", "DROP RESOURCE MONITOR"], "though roles could not be dropped"


def test_another_catalogs_scopes_and_only_documented_kinds_of_api_reach_the_integration(
    account: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "CATALOG_AUTH": "oauth",
        "OAUTH_CLIENT_ID": "c",
        "OAUTH_CLIENT_SECRET": "s",
        "OAUTH_SCOPES": "catalog,sign",
    }
    settings = account.but(**given, CATALOG_API_TYPE="AWS_GLUE").settings()
    (integration,) = (
        one for one in estate_of(deployment_of(settings)).resources if one.key.kind is Kind.CATALOG
    )
    (made,) = create(integration)
    assert "OAUTH_ALLOWED_SCOPES = ('catalog', 'sign')" in made.text
    assert "CATALOG_API_TYPE = AWS_GLUE" in made.text
    with pytest.raises(ConfigError, match="catalog_api_type"):
        account.but(CATALOG_API_TYPE="PUBLIC) ENABLED = FALSE --").settings()


def test_the_stand_in_prints_what_leads_to_it_for_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    login = {"account": "a", "user": "u", "password": "it's", "host": "h", "port": 1, "protocol": "http"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "snowflake.json").write_text(json.dumps(login))
    monkeypatch.setattr(sys, "argv", ["snowflake", "--home", str(tmp_path), "--variables"])
    stand_in.main()
    words = shlex.split(capsys.readouterr().out)
    assert words.count("export") * 2 == len(words)
    assert "PAYWAVE_SNOWFLAKE__PASSWORD=it's" in words
    assert "PAYWAVE_SNOWFLAKE__WAREHOUSE=PAYWAVE_READERS" in words
