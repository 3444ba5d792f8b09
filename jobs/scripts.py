"""Scripts: statements that are always the same, compiled once, and sent together where that is possible.

They are compiled once for each kind of database and sent as text. As expressions, found in SQLAlchemy's
cache, the same statements take four times as long, far more than SQLite takes to obey them; a statement built
anew for each use does not even hit that cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

__all__ = ["Among", "Script", "Statement", "insert", "insert_from", "new", "send"]

_Values = tuple[Any, ...] | dict[str, Any]


class Statement:
    """A statement whose parameters are called `new_COLUMN` and `key_COLUMN`; rows come by column."""

    def __init__(self, expression: sa.Insert | sa.Update | sa.Delete | sa.Select[Any]) -> None:
        self._expression = expression
        self._texts: dict[str, tuple[str, Callable[[Mapping[str, Any]], _Values]]] = {}  # by kind of database

    def arranged(self, dialect: sa.Dialect, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[_Values]]:
        """Its text, and the rows as the driver takes them."""
        known = self._texts.get(dialect.name)
        if known is None:
            known = self._texts[dialect.name] = self._compile(dialect)
        text, arrange = known
        return text, [arrange(row) for row in rows]

    def _compile(self, dialect: sa.Dialect) -> tuple[str, Callable[[Mapping[str, Any]], _Values]]:
        compiled = self._expression.compile(dialect=dialect)
        parameters = {name: parameter for parameter, name in compiled.bind_names.items()}
        names = compiled.positiontup or list(parameters)
        columns = [name.removeprefix("new_").removeprefix("key_") for name in names]
        types = (parameters[name].type.dialect_impl(dialect) for name in names)
        convert = [kind.bind_processor(dialect) for kind in types]
        binding = list(zip(columns, convert, strict=True))
        # What is no parameter of ours is a constant of the expression, under a name that is no column's.
        constants = {name: compiled.params[name] for name in names if not name.startswith(("new_", "key_"))}

        def arrange(row: Mapping[str, Any]) -> tuple[Any, ...]:
            given = {**constants, **row} if constants else row
            return tuple(given[column] if to is None else to(given[column]) for column, to in binding)

        if compiled.positional:
            return compiled.string, arrange
        return compiled.string, lambda row: dict(zip(names, arrange(row), strict=True))


#: Statements in their order, each with the rows that it is executed for.
Script = list[tuple[Statement, Sequence[Mapping[str, Any]]]]


def send(connection: sa.Connection, script: Script) -> sa.CursorResult[Any]:
    """Execute each statement for each of its rows, in order; returns what the last one returned.

    PostgreSQL is sent all of it in one message: one round trip, and the last statement's lock is short.
    """
    texts = [statement.arranged(connection.dialect, rows) for statement, rows in script]
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor:
            parts = [cursor.mogrify(text, values) for text, rows in texts for values in rows]
        message = b";\n".join(parts).decode()
        return connection.exec_driver_sql(message, execution_options={"no_parameters": True})
    for text, rows in texts:
        result = connection.exec_driver_sql(text, cast(Any, rows[0] if len(rows) == 1 else rows))
    return result


def insert(table: sa.Table) -> Statement:
    """Inserts rows of all the table's columns."""
    return Statement(sa.insert(table).values(new(column.name for column in table.c)))


def insert_from(
    table: sa.Table, found: Mapping[str, sa.ColumnElement[Any]], rows: sa.ColumnElement[Any]
) -> Statement:
    """Inserts a row for each that fulfils `rows`: the columns `found` come from there, all others are new."""
    given = {
        column.name: sa.bindparam(f"new_{column.name}", type_=column.type)
        for column in table.c
        if column.name not in found
    }
    columns = {**found, **given}
    return Statement(sa.insert(table).from_select(list(columns), sa.select(*columns.values()).where(rows)))


def new(columns: Iterable[str]) -> dict[str, sa.BindParameter[Any]]:
    """The parameters by which a statement sets these columns."""
    return {name: sa.bindparam(f"new_{name}") for name in columns}


class Among(sa.ColumnElement[Any]):
    """Whether the column's value is one of these: one value of the statement, however many they are.

    Without `ids` they are its parameter `key_ids`.
    """

    inherit_cache = True
    _traverse_internals: list[Any] = [  # noqa: RUF012  # declared so by SQLAlchemy
        ("column", InternalTraversal.dp_clauseelement),
        ("ids", InternalTraversal.dp_clauseelement),
    ]
    type = sa.types.NullType()  # a Boolean would be compared with 1 on SQLite, which uses no index then

    def __init__(self, column: sa.Column[str], ids: Sequence[str] | None = None) -> None:
        self.column = column
        self.ids = (
            sa.bindparam("key_ids", type_=_Ids())
            if ids is None
            else sa.bindparam("ids", ids, unique=True, type_=_Ids())
        )


@compiles(Among, "postgresql")
def _any_of(element: Among, compiler: Any, **kwargs: Any) -> str:
    return f"{compiler.process(element.column, **kwargs)} = ANY ({compiler.process(element.ids, **kwargs)})"


@compiles(Among, "sqlite")
def _in_json(element: Among, compiler: Any, **kwargs: Any) -> str:
    ids = f"SELECT value FROM json_each({compiler.process(element.ids, **kwargs)})"
    return f"{compiler.process(element.column, **kwargs)} IN ({ids})"


class _Ids(sa.TypeDecorator[Any]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return json.dumps(list(value)) if dialect.name == "sqlite" else list(value)
