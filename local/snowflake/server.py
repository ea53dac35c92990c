"""The HTTP side: Snowflake's login and query requests, around fakesnow's handlers.

Belongs here: who may log in, and answers that the real connector does not retry for ever.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import logging
import secrets
import uuid
from base64 import b64decode, b64encode
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from fakesnow.arrow import to_ipc, to_sf
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.converter import from_binding
from fakesnow.rowtype import describe_as_rowtype
from fakesnow.server import ServerError, routes, sessions, to_conn, to_token
from fakesnow.server import session as alive
from fakesnow.statement_type import SELECT, UNKNOWN
from fakesnow.transforms import SERVER_VERSION
from snowflake.connector.errors import Error
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.snowflake.account import Account, Session
from local.snowflake.kinds import SYSTEM_ROLES
from local.snowflake.session import Connection

_log = logging.getLogger("local.snowflake")
_OURS = ("/session/v1/login-request", "/queries/v1/query-request", "/fs_bucket/{path:path}")


def application(account: Account, user: str, password: str) -> Starlette:
    """The server: `user` logs in by `password`, others, and `user` too, by the key that they were given."""

    async def login(request: Request) -> JSONResponse:
        data = (await _body(request))["data"]
        if not _may_enter(account, data, user, password):
            return _refused("390100", "Incorrect username or password was specified.")
        return await run_in_threadpool(_entered, account, data, dict(request.query_params))

    theirs = [route for route in routes if route.path not in _OURS]
    ours = ((_OURS[0], login), (_OURS[1], _query), ("/session/heartbeat", alive))
    return Starlette(routes=[*theirs, *(Route(path, does, methods=["POST"]) for path, does in ours)])


async def _query(request: Request) -> JSONResponse:
    """Answer one statement. What fails is an error of the statement: a 500 would be sent again and again.

    fakesnow's own handler parses every statement before it is run, and sqlglot stumbles over some of ours.
    """
    try:
        connection = to_conn(to_token(request))
        return await run_in_threadpool(_answered, connection, await _body(request))
    except ServerError as error:
        return _refused(error.code, error.message)
    except Error as error:
        return _refused(f"{error.errno:06d}", error.raw_msg or str(error), error.sqlstate)
    except Exception as error:
        _log.exception("a statement failed")
        return _refused("000603", f"SQL execution internal error: {error}", "XX000")


def _answered(connection: FakeSnowflakeConnection, body: dict[str, Any]) -> JSONResponse:
    assert isinstance(connection, Connection)
    cursor, bound = connection.cursor(), body.get("bindings") or {}
    given = [from_binding(bound[key]) for key in sorted(bound, key=int)]
    if body.get("describeOnly"):
        cursor.describe_only(body["sqlText"])
    else:
        cursor.execute(body["sqlText"], binding_params=given, server=True)
    table = cursor.arrow
    rowtype = describe_as_rowtype(cursor._describe_last_sql())
    content = to_ipc(to_sf(table.combine_chunks(), rowtype)) if table else b""
    data = {
        "parameters": [{"name": "TIMEZONE", "value": "Etc/UTC"}],
        "rowtype": rowtype,
        "total": table.num_rows,
        "queryId": cursor.sfqid,
        "statementTypeId": SELECT if cursor.is_query else UNKNOWN,
        "finalDatabaseName": connection.session.database,
        "finalSchemaName": connection.session.schema,
        "finalWarehouseName": connection.session.warehouse,
        "finalRoleName": connection.session.role,
        "queryResultFormat": "arrow",
        "rowsetBase64": b64encode(content).decode(),
    }
    return JSONResponse({"data": data, "success": True})


async def _body(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    read: dict[str, Any] = json.loads(body)
    return read


def _refused(code: str, text: str, state: str | None = None) -> JSONResponse:
    data = {"errorCode": code, "sqlState": state}
    return JSONResponse({"data": data, "code": code, "message": text, "success": False})


def _may_enter(account: Account, data: dict[str, Any], user: str, password: str) -> bool:
    name = str(data.get("LOGIN_NAME", "")).upper()
    entry = account.registry.find("USER", (name,))
    if entry is None or entry.options.get("DISABLED"):
        return False
    if data.get("AUTHENTICATOR") == "SNOWFLAKE_JWT":
        return _is_signed(account, name, str(data.get("TOKEN", "")))
    return name == user and hmac.compare_digest(str(data.get("PASSWORD", "")), password)


def _is_signed(account: Account, name: str, token: str) -> bool:
    """Whether a token is signed with the key of `ALTER USER … SET RSA_PUBLIC_KEY`, and says so."""
    entry = account.registry.find("USER", (name,))
    if entry is None or "RSA_PUBLIC_KEY" not in entry.options:
        return False
    try:
        key = load_der_public_key(b64decode("".join(entry.options["RSA_PUBLIC_KEY"].split())))
        claims = jwt.decode(token, key, algorithms=["RS256"])  # type: ignore[arg-type]
    except (ValueError, jwt.InvalidTokenError):
        return False
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    print_ = "SHA256:" + b64encode(hashlib.sha256(der).digest()).decode()
    return bool(claims.get("iss", "").endswith(f".{name}.{print_}"))


def _entered(account: Account, data: dict[str, Any], asked: dict[str, str]) -> JSONResponse:
    """Open a session as Snowflake does: a role must exist; what else does not exist is left out."""
    role = (asked.get("roleName") or "ACCOUNTADMIN").upper()
    if role not in SYSTEM_ROLES and not account.registry.find("ROLE", (role,)):
        return _refused("390189", f"Role '{role}' specified in the connect string does not exist.")
    parameters = data.get("SESSION_PARAMETERS", {})
    session = Session(str(data["LOGIN_NAME"]).upper(), role, tag=parameters.get("QUERY_TAG", ""))
    warehouse, database, schema = (
        asked.get(key, "").upper() for key in ("warehouse", "databaseName", "schemaName")
    )
    if account.registry.find("WAREHOUSE", (warehouse,)):
        session.warehouse = warehouse
    if account.registry.find("DATABASE", (database,)):
        session.database = database
        found = account.registry.find("SCHEMA", (database, schema or "PUBLIC"))
        session.schema = found.name[1] if found else None
    autocommit = parameters.get("AUTOCOMMIT", True)
    token = secrets.token_urlsafe(32)
    sessions[token] = Connection(account, session, autocommit)
    return JSONResponse({"success": True, "data": _welcome(token, session, autocommit)})


def _welcome(token: str, session: Session, autocommit: bool) -> dict[str, Any]:
    return {
        "token": token,
        "masterToken": token,
        "sessionId": uuid.uuid4().int % 10**12,
        "serverVersion": SERVER_VERSION,
        "parameters": [
            {"name": "AUTOCOMMIT", "value": autocommit},
            {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
            {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
        ],
        "sessionInfo": {
            "databaseName": session.database,
            "schemaName": session.schema,
            "warehouseName": session.warehouse,
            "roleName": session.role,
        },
    }
