"""What alembic runs to migrate: on the connection, and in the transaction, of whoever called it.

Limited to Ebbtide's tables: without the filter a comparison would want to drop TaskFlow's.
"""

from typing import Any

from alembic import context

from ebbtide.jobs.schema import VERSION_TABLE
from ebbtide.jobs.tables import metadata


def _is_ours(name: str | None, kind: str, _parents: Any) -> bool:
    return kind != "table" or name in metadata.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=_is_ours,
)
with context.begin_transaction():
    context.run_migrations()
