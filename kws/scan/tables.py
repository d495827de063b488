"""Rows on disk: parquet or JSON lines, a file that appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from kws.errors import KwsError
from kws.system.atomic import whole_file

FORMATS = ("parquet", "jsonl")
Row = dict[str, Any]


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise KwsError("parquet needs pyarrow; pip install 'kws[scan]', or give --format jsonl") from error
    return pyarrow


def check_format(form: str) -> None:
    """Raise `KwsError` where rows of this format cannot be written here."""
    if form == "parquet":
        _arrow()


def write_rows(path: Path, rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Write rows to `path`, whose suffix is a format. columns: each one's Arrow type."""
    with whole_file(path) as partial:
        if path.suffix == ".parquet":
            arrow = _arrow()
            schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in columns.items()])
            arrow.parquet.write_table(arrow.Table.from_pylist(list(rows), schema), partial)
        else:
            lines = (json.dumps({name: row.get(name) for name in columns}) + "\n" for row in rows)
            partial.write_text("".join(lines), encoding="utf-8")


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of a file that `write_rows` wrote; None: all columns. Raises `KwsError` if it is damaged."""
    try:
        if path.suffix == ".parquet":
            table = _arrow().parquet.ParquetFile(path).read(None if columns is None else list(columns))
            rows: list[Row] = table.to_pylist()
            return rows
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (ValueError, OSError) as error:  # pyarrow's errors are these
        if isinstance(error, KwsError):
            raise
        raise KwsError(f"{path} cannot be read ({error}); remove it to scan its files again") from error


def read_column(file: BinaryIO, name: str, column: str) -> list[str | None]:
    """A column of any parquet file, which errors call `name`. Raises `KwsError` if it is damaged or has none."""
    try:
        table = _arrow().parquet.ParquetFile(file)
    except (ValueError, OSError) as error:
        if isinstance(error, KwsError):
            raise
        raise KwsError(f"{name} cannot be read as parquet ({error})") from error
    if column not in table.schema_arrow.names:
        raise KwsError(f"{name} has no column `{column}`; it has {', '.join(table.schema_arrow.names)}")
    values: list[str | None] = table.read([column]).column(column).to_pylist()
    return values
