"""Parts of a large job: rows of images that are detected in together, and the parquet file with what was found.

A part has its place in the job by the number of its first row, and its file is named by it. A file appears when it is
complete; detecting in a part again replaces it. So order is kept, and nothing is lost or there twice, whatever
processes were killed.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pyarrow.fs
import pyarrow.parquet

from gfocal.data.paths import is_image
from gfocal.errors import DataError
from gfocal.inference.sources import find_images

FOLDER, HEADER = "parts", "run.json"
_PATHS = ("path", "file", "file_name", "filename", "uri", "image")  # names of columns, the first that fits
_CONTENTS = ("bytes", "image", "content", "data")

# start, count, and paths; or of a parquet file: file, group, row, column, and the folder that its paths start from.
Part = dict[str, Any]

_FLOATS = pyarrow.list_(pyarrow.float32())
_RESULTS = {
    "index": pyarrow.int64(),  # place in the job, from 0
    "path": pyarrow.string(),
    "width": pyarrow.int32(),
    "height": pyarrow.int32(),
    "boxes": pyarrow.list_(_FLOATS),
    "scores": _FLOATS,
    "labels": pyarrow.list_(pyarrow.int32()),
    "edge_std": pyarrow.list_(_FLOATS),
    "calibrated_scores": _FLOATS,
    "edge_interval": pyarrow.list_(pyarrow.list_(_FLOATS)),
    "error": pyarrow.string(),
}


def file_system(place: str, name: str = "") -> tuple[Any, str]:
    """pyarrow's file system of an address (s3://..., gs://..., file://...) or a local path, and the path in it.

    ``name`` is that of a file or folder below the place. Raises DataError for an address of a kind that pyarrow does
    not know.
    """
    if "://" not in place:
        return pyarrow.fs.LocalFileSystem(), str(Path(place).absolute() / name)
    try:
        system, path = pyarrow.fs.FileSystem.from_uri(place)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{place}: {' '.join(str(error).split())}") from error
    return system, f"{path.rstrip('/')}/{name}" if name else path


def list_parts(sources: Sequence[str], lists: Sequence[Path], out: Path, size: int) -> tuple[list[Part], list[str]]:
    """The parts of a job, at most ``size`` rows each, in the order of the sources; and notes for the user.

    A source is a parquet file, or what ``gfocal.inference.sources`` takes, or an address of a file or folder.

    Raises DataError where there is no image, or a parquet file has no column of images.
    """
    parts: list[Part] = []
    notes: list[str] = []
    paths: list[str] = []
    start = 0

    def flush() -> None:
        nonlocal start
        for first in range(0, len(paths), size):
            several = paths[first : first + size]
            parts.append({"start": start, "count": len(several), "paths": several})
            start += len(several)
        paths.clear()

    seen: set[str] = set()
    for source in [*sources, *(f"@{file}" for file in lists)]:
        tables, files, found_notes = _expand(source, out)
        notes += found_notes
        paths += [file for file in files if file not in seen]
        seen.update(files)
        for table in tables:
            flush()
            for part in _parts_of_table(table, size):
                parts.append(part | {"start": start})
                start += part["count"]
    flush()
    if not parts:
        raise DataError("no images were found; nothing was written")
    return parts, notes


def _expand(source: str, out: Path) -> tuple[list[str], list[str], list[str]]:
    """Parquet files, image files and notes of one source."""
    if "://" in source:
        system, path = file_system(source)
        try:
            info = system.get_file_info(path)
            selector = pyarrow.fs.FileSelector(path, recursive=True)
            below = [info] if info.is_file else system.get_file_info(selector)
        except OSError as error:
            raise DataError(f"{source}: {' '.join(str(error).split())}") from error
        if info.is_file:
            return ([source], [], []) if path.endswith(".parquet") else ([], [source], [])
        base, mark, query = source.partition("?")
        names = sorted(one.path[len(path) :].lstrip("/") for one in below if one.is_file)
        tables, files = [n for n in names if n.endswith(".parquet")], [n for n in names if is_image(Path(n))]
        if not names or not (tables or files):
            raise DataError(f"{source}: no images and no parquet files there")
        places = [f"{base.rstrip('/')}/{quote(name)}{mark}{query}" for name in tables or files]
        return (places, [], []) if tables else ([], places, [])
    local = Path(source)
    if local.suffix.lower() == ".parquet":
        return [source], [], []
    tables = sorted(str(file) for file in local.rglob("*.parquet")) if local.is_dir() else []
    if tables:
        return tables, [], []
    found = find_images([source], out)
    if found.failures:
        raise DataError(found.failures[0])
    return [], [str(Path(file).absolute()) for file in found.files], found.notes


def _parts_of_table(file: str, size: int) -> Iterator[Part]:
    system, path = file_system(file)
    try:
        with system.open_input_file(path) as stream, pyarrow.parquet.ParquetFile(stream) as table:
            schema, metadata = table.schema_arrow, table.metadata
            groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: cannot be read as parquet: {' '.join(str(error).split())}") from error
    column = _image_column(schema, file)
    where: Part = {"file": file} if "://" in file else {"file": path, "base": os.getcwd()}
    for group, rows in enumerate(groups):
        for row in range(0, rows, size):
            yield where | {"count": min(size, rows - row), "group": group, "row": row, "column": column}


def _image_column(schema: pyarrow.Schema, file: str) -> str:
    types = pyarrow.types
    for name in _CONTENTS:
        if name in schema.names:
            kind = schema.field(name).type
            if types.is_binary(kind) or types.is_large_binary(kind) or types.is_struct(kind):
                return name
    for name in _PATHS:
        if name in schema.names and (
            types.is_string(schema.field(name).type) or types.is_large_string(schema.field(name).type)
        ):
            return name
    raise DataError(
        f"{file}: no column of images among {', '.join(schema.names)}; name that of file contents 'bytes', or that "
        "of paths 'path'"
    )


def read_part(part: Part, size: int) -> dict[str, list[Any]]:
    """The images of a part as columns: ``index``, ``path``, and of a table ``bytes`` and ``id``."""
    indices = list(range(part["start"], part["start"] + part["count"]))
    if part.get("file") is None:
        return {"index": indices, "path": list(part["paths"])}
    system, path = file_system(part["file"])
    with system.open_input_file(path) as stream, pyarrow.parquet.ParquetFile(stream) as table:
        column = part["column"]
        names = list(dict.fromkeys([column, *(n for n in ("id", "path") if n in table.schema_arrow.names)]))
        batches = table.iter_batches(size, row_groups=[int(part["group"])], columns=names)
        rows = next(batch for i, batch in enumerate(batches) if i == part["row"] // size)
    found: dict[str, list[Any]] = {"index": indices}
    values = rows.column(column).to_pylist()
    found["path"] = rows.column("path").to_pylist() if "path" in names else [None] * len(values)
    if pyarrow.types.is_struct(rows.schema.field(column).type):  # as Hugging Face's datasets store images
        found["bytes"] = [(value or {}).get("bytes") for value in values]
        found["path"] = [(value or {}).get("path") for value in values]
    elif isinstance(next(filter(None, values), b""), str):
        found["path"] = [_absolute(value, part.get("base")) for value in values]
    else:
        found["bytes"] = values
    return found | ({"id": rows.column("id").to_pylist()} if "id" in names else {})


def _absolute(path: str | None, base: str | None) -> str | None:
    """A path as all processes find it; of a table that is somewhere else (``base`` None) as it stands there."""
    return path if not path or base is None or "://" in path else os.path.join(base, path)


def write_part(folder: str, columns: Mapping[str, list[Any]], start: int) -> None:
    """Write the results of a part; its file appears when it is complete."""
    fields = [(name, kind) for name, kind in _RESULTS.items() if name in columns]
    arrays = {name: pyarrow.array(columns[name], kind) for name, kind in fields}
    arrays |= {name: pyarrow.array(values) for name, values in columns.items() if name not in _RESULTS}
    system, path = file_system(folder, FOLDER)
    name = f"part-{start:012d}.parquet"
    temporary = f"{path}/.{name}.{uuid.uuid4().hex}"
    with system.open_output_stream(temporary) as stream:
        pyarrow.parquet.write_table(pyarrow.table(arrays), stream)
    system.move(temporary, f"{path}/{name}")


def finished_parts(folder: str) -> dict[int, str]:
    """First row -> file of the parts that are done."""
    system, path = file_system(folder, FOLDER)
    infos = system.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    names = sorted((info.base_name, info.path) for info in infos if info.base_name.startswith("part-"))
    return {int(name[5:].partition(".")[0]): file for name, file in names}


def is_part_done(folder: str, start: int) -> bool:
    """Whether the file of a part is there."""
    system, path = file_system(folder, FOLDER)
    return system.get_file_info(f"{path}/part-{start:012d}.parquet").is_file


def read_parts(folder: str, columns: Sequence[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """The rows of each finished part, in order."""
    system, _ = file_system(folder)
    for file in finished_parts(folder).values():
        with system.open_input_file(file) as stream:
            yield pyarrow.parquet.read_table(stream, columns=columns).to_pylist()


def read_run(folder: str) -> dict[str, Any] | None:
    """What identifies the job of a folder; None where there is none."""
    system, path = file_system(folder, HEADER)
    if not system.get_file_info(path).is_file:
        return None
    try:
        with system.open_input_stream(path) as stream:
            return json.loads(stream.read())
    except ValueError as error:
        raise DataError(f"{folder}/{HEADER}: damaged; name another folder") from error


def write_run(folder: str, header: Mapping[str, Any]) -> None:
    """Create the folder of a job."""
    system, path = file_system(folder)
    system.create_dir(f"{path}/{FOLDER}", recursive=True)
    with system.open_output_stream(f"{path}/{HEADER}") as stream:
        stream.write(json.dumps(header).encode())
