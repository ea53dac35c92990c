"""Rows of partners' files that the dropzone rejected, taken in once more by the profile as it is now.

Belongs here: finding out what the row was, from its record's headers. Does not: how a row is taken in
(`streaming/dropzone/rows.py`). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from lakehouse.quarantined import RawRecord
from quality.canonical import MAX_BYTES
from quality.contract import Contract
from streaming.dropzone.rows import COLUMNS, FILE, FILE_DIGEST, LINE, Origin, RowIntake, Taken
from streaming.message import ARCHIVE
from streaming.partners.profile import Profile
from streaming.partners.rows import RowMapper


def taken_again(
    raw: RawRecord, source: str, first_time: datetime, contract: Contract, profile: Profile | None
) -> Taken | None:
    """Take a file's row in again; None for a record that is none, or that does not say how.

    A row of CSV says its file's columns if it was rejected; else it is an event already. A line of JSON gets
    the id and the time of arrival that it lacks. Card numbers are masked in what was rejected, so no key is
    needed. A row that was cut never passes.

    Args:
        first_time: Kafka time of the row's first record, as of which it is judged.
        profile: of the partner, for rows of CSV.
    """
    headers = dict(reversed(raw.headers))  # of several of a name the first counts
    value = raw.value or b""
    is_csv = COLUMNS in headers
    if len(value) >= MAX_BYTES or (profile is None if is_csv else ARCHIVE in headers):
        return None
    try:
        line = int(headers.get(LINE) or b"")
        mapper = _mapper(headers, profile, source) if is_csv and profile else None
    except ValueError:  # not one of ours
        return None
    name, digest = ((headers.get(h) or b"").decode("utf-8", "replace") for h in (FILE, FILE_DIGEST))
    intake = RowIntake(Origin(source, name, digest, first_time), "refuse", mapper, contract=contract)
    return intake.take(value, line)


def _mapper(headers: Mapping[str, bytes | None], profile: Profile, source: str) -> RowMapper:
    columns = json.loads(headers[COLUMNS] or b"")
    if not isinstance(columns, list) or not profile.columns <= set(map(str, columns)):
        raise ValueError("the profile needs other columns by now")
    return RowMapper(profile, columns, "", source)
