"""A stand-in for Snowflake: enough of its protocol and SQL for the real connector, over the real tables.

It is fakesnow's server (Snowflake SQL translated to DuckDB) with what that lacks: external volumes, catalog
integrations, Iceberg tables that are refreshed from the real REST catalog, and DDL that is kept as state. It
refuses what it does not understand. What it is not:

- Masks, tags and quotas are state: shown, described, dropped with their object; never enforced in a
  SELECT. A row access policy is, on a view that the SELECT itself names, for the session's role and those
  below it. Grants are: on what is read, what it is in, and the warehouse. ACCOUNTADMIN may do everything, and
  `trouble.py` takes a privilege from it too. Views run as in Snowflake, with their owner's rights.
- Time travel is by VERSION and VERSION_TAG, among what was refreshed and the lake
  still keeps: as documented, for Snowflake has it as a preview. `trouble.py` takes it away.
- It keeps no rows of its own: CREATE TABLE and DML are refused.
- Every login is ACCOUNTADMIN unless it asks for another role that exists.
"""
