"""A corpus in one parquet file: one row a run, readable by any parquet reader, small enough for a repository.

Series are lists within a row. Where a snapshot has several numbers, the list has the first number of all
snapshots, then the second, and so on: neighbours differ little then, and byte-stream-split columns with zstd
compress well.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn._files import decode, parse_json
from lightning_nndyn.corpus.storage.folder import upgraded
from lightning_nndyn.corpus.storage.record import CURVES, RECORD_VERSION, LayerNumbers, RunRecord
from lightning_nndyn.errors import CorpusError, MissingExtraError, NNDynWarning
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot, chain_depth

PARQUET_VERSION = 2
"""Version 2 added facts about the graph: `topology`, `kinds`, `depth`."""

_READABLE = ("1", "2")
_HORIZONS = (30, 20, 15, 10, 7, 5, 3, 2, 1)  # epochs
_VERSION_KEY, _MANIFEST_KEY, _NAMES_KEY = b"nndyn_parquet_version", b"nndyn_manifest", b"nndyn_statistics"
_SNAPSHOT_FLOATS = ("epoch", "eigenvalue", "residual")
_SNAPSHOT_INTS = ("iterations", "num_nodes", "num_edges")
_SERIES = ("eigenvalue", "residual", *_SNAPSHOT_INTS)
_SCHEDULE = ("factor", "progress")
_RAW = ("layer", "weight", "flow_layer")
_REPEATED = ("departures", "kinds", "layer_names", "weight_names", "flow_kinds", "flow_layer_names")
_FLOW = "flow_"  # prefix of the columns that were read on the data flow
_OPTIONAL_FLOATS = (
    "schedule_factor", "schedule_progress", "flow_eigenvalue", "flow_residual", "flow_statistics",
)  # fmt: skip


def parquet_bytes(records: Sequence[RunRecord], manifest: Mapping[str, Any]) -> bytes:
    """The contents of a parquet file with these records and the manifest of their corpus.

    Raises:
        MissingExtraError: pyarrow is not installed.
        CorpusError: There is no record.
    """
    pyarrow, parquet = _pyarrow()
    if not records:
        raise CorpusError("the corpus has no complete run yet: nothing to export")
    table = pyarrow.Table.from_pylist([_row(record) for record in records], schema=_schema(pyarrow, manifest))
    sink = pyarrow.BufferOutputStream()
    floats = [f"{name}.list.element" for name in _float_lists()]
    parquet.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=[f"{name}.list.element" for name in _REPEATED],
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in floats},
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_parquet(file: Path, *, raw: bool = True) -> list[RunRecord]:
    """Read the records of a parquet file; without `raw`, without the numbers per layer.

    Raises:
        MissingExtraError: pyarrow is not installed.
        CorpusError: The file is missing, damaged, no corpus or of another version, or no row holds a record.
            Otherwise, a row that holds none is left out, with a warning.
    """
    pyarrow, parquet = _pyarrow()
    with _errors_of(file, pyarrow):
        opened = parquet.ParquetFile(_regular(file))
        schema = opened.schema_arrow
        _check_version(file, schema.metadata or {})
        expected = _schema(pyarrow, {})
        for name in set(expected.names) & set(schema.names):
            if schema.field(name).type != expected.field(name).type:
                raise ValueError(f"the column {name!r} has the type {schema.field(name).type}")
        unwanted = () if raw else tuple(f"{kind}_values" for kind in _RAW)
        columns = [name for name in schema.names if name in expected.names and name not in unwanted]
        rows = opened.read(columns=columns).to_pylist()
    records, damaged = [], []
    for number, row in enumerate(rows):
        try:
            records.append(_checked_record(row))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            damaged.append(f"row {number} of {str(file)!r} holds no record ({type(error).__name__}: {error})")
    if damaged and not records:
        raise CorpusError(damaged[0])
    if damaged:
        warnings.warn(f"{len(damaged)} runs are left out: {damaged[0]}", NNDynWarning, stacklevel=3)
    return records


def read_manifest(file: Path) -> dict[str, Any]:
    """The manifest of the corpus in a parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        CorpusError: The file is missing, damaged, no corpus or of another version.
    """
    pyarrow, parquet = _pyarrow()
    with _errors_of(file, pyarrow):
        metadata = parquet.read_schema(_regular(file)).metadata or {}
        _check_version(file, metadata)
        return upgraded(file, decode(parse_json(metadata[_MANIFEST_KEY]), dict[str, Any]))


@contextmanager
def _errors_of(file: Path, pyarrow: Any) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise CorpusError(f"cannot read the corpus {str(file)!r}: {type(error).__name__}: {error}") from error


def _regular(file: Path) -> Path:
    if not file.is_file():
        raise OSError("it is no regular file")
    return file


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "corpus", "reading or writing a parquet corpus") from error
    return pyarrow, pyarrow.parquet


def _check_version(file: Path, metadata: Mapping[bytes, bytes]) -> None:
    found = metadata.get(_VERSION_KEY, b"none").decode()
    if found not in _READABLE:
        raise CorpusError(
            f"{str(file)!r} has corpus schema version {found}, this package reads {' and '.join(_READABLE)}: "
            "export the corpus again, or use the version of lightning-nndyn that wrote it"
        )
    names = tuple(json.loads(metadata[_NAMES_KEY]))
    if names != STATISTICS:
        raise CorpusError(f"{str(file)!r} holds the statistics {names}, this package {STATISTICS}")


def _float_lists() -> list[str]:
    curves = [f"curve_{name}" for name in CURVES]
    losses = ["loss_so_far", "loss_recent"]
    values = [f"{kind}_values" for kind in _RAW]
    return [*curves, *losses, *_SNAPSHOT_FLOATS, "statistics", *_OPTIONAL_FLOATS, *values]


def _schema(pyarrow: Any, manifest: Mapping[str, Any]) -> Any:
    double, single, text = pyarrow.float64(), pyarrow.float32(), pyarrow.string()
    narrow = {f"{kind}_values": single for kind in _RAW}
    columns: dict[str, Any] = {
        "index": pyarrow.int32(),
        "seed": pyarrow.int64(),
        "learning_rate": double,
        "dropout": double,
        "best_accuracy": double,
        "last_accuracy": double,
        "patience_epoch": pyarrow.int32(),
        "diverged_epoch": double,
        "reason": text,
        "seconds": double,
        "failed": pyarrow.bool_(),
        "config": text,
        "versions": text,
        "departures": pyarrow.list_(text),
        "topology": text,
        "kinds": pyarrow.list_(text),
        "depth": pyarrow.int32(),
        "flow_kinds": pyarrow.list_(text),
        "flow_depth": pyarrow.int32(),
        **{f"{way}{name}": pyarrow.list_(pyarrow.int32()) for way in ("", _FLOW) for name in _SNAPSHOT_INTS},
        **{f"{kind}_names": pyarrow.list_(text) for kind in _RAW},
        **{f"{kind}_widths": pyarrow.list_(pyarrow.int32()) for kind in _RAW},
        **{f"{kind}_present": pyarrow.list_(pyarrow.bool_()) for kind in _RAW},
        **{name: pyarrow.list_(narrow.get(name, double)) for name in _float_lists()},
    }
    metadata = {
        _VERSION_KEY: str(PARQUET_VERSION),
        b"nndyn_record_version": str(RECORD_VERSION),
        _MANIFEST_KEY: json.dumps(manifest),
        _NAMES_KEY: json.dumps(STATISTICS),
    }
    return pyarrow.schema(list(columns.items()), metadata=metadata)


def _row(record: RunRecord) -> dict[str, Any]:
    plain = ("index", "patience_epoch", "diverged_epoch", "reason", "seconds", "failed", "departures")
    labels = ("best_accuracy", "last_accuracy")
    snapshots = record.snapshots
    return {
        **{name: getattr(record, name) for name in (*plain, *labels)},
        **{name: record.config.get(name) for name in ("seed", "learning_rate", "dropout")},
        "topology": snapshots[0].topology if snapshots else "chain",
        "config": json.dumps(record.config),
        "versions": json.dumps(record.versions),
        **{f"curve_{name}": values for name, values in record.curve.items()},
        "epoch": [one.epoch for one in snapshots],
        **_series(snapshots),
        **{f"{_FLOW}{name}": values for name, values in _series(record.flow).items()},
        **{f"schedule_{name}": [pair[at] for pair in record.schedule] for at, name in enumerate(_SCHEDULE)},
        "loss_so_far": [so_far for so_far, _ in record.losses],
        "loss_recent": [recent for _, recent in record.losses],
        **_flatten("weight", record.weights),
    }


def _series(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """The columns of one graph's snapshots; kinds and depth are the same in all snapshots of a run."""
    return {
        "kinds": list(snapshots[0].kinds) if snapshots else [],
        "depth": snapshots[0].depth if snapshots else 0,
        **{name: [getattr(one, name) for one in snapshots] for name in _SERIES},
        "statistics": np.array([one.statistics for one in snapshots], dtype=np.float64).T.ravel(),
        **_flatten("layer", [one.layers for one in snapshots]),
    }


def _checked_record(row: dict[str, Any]) -> RunRecord:
    """The record of a row, whose columns have the right types; values may be missing."""
    for name, value in row.items():
        if isinstance(value, list) and None in value:
            raise ValueError(f"a value of {name!r} is missing")
    record = _record(row)
    plain = (record.index, record.reason, record.seconds, record.failed, record.departures)
    if None in plain or record.index < 0 or not all(isinstance(one.depth, int) for one in record.snapshots):
        raise ValueError("a value is missing or negative")
    record.check()
    return record


def _record(row: dict[str, Any]) -> RunRecord:
    count = len(row["epoch"])
    flow = {name.removeprefix(_FLOW): values for name, values in row.items() if name.startswith(_FLOW)}
    schedule = [row.get(f"schedule_{name}") or () for name in _SCHEDULE]
    return RunRecord(
        index=row["index"],
        config=decode(parse_json(row["config"]), dict[str, Any]),
        snapshots=_snapshots(row, row.get("topology", "chain")),
        flow=_snapshots(flow | {"epoch": row["epoch"]}, "dataflow") if flow.get("iterations") else [],
        schedule=list(zip(*schedule, strict=True)),
        losses=list(zip(row["loss_so_far"], row["loss_recent"], strict=True)),
        weights=_unflatten("weight", row, count),
        curve={name: row[f"curve_{name}"] for name in CURVES},
        patience_epoch=row["patience_epoch"],
        diverged_epoch=row["diverged_epoch"],
        reason=row["reason"],
        seconds=row["seconds"],
        failed=row.get("failed", False),  # files of the first records have no such column
        departures=row["departures"],
        versions=decode(parse_json(row["versions"]), dict[str, str]),
    )


def _snapshots(row: dict[str, Any], topology: str) -> list[Snapshot]:
    """The snapshots of one graph, from columns without prefix."""
    count = len(row["epoch"])
    statistics = np.array(row["statistics"], dtype=np.float64).reshape(len(STATISTICS), count).T.tolist()
    layers = _unflatten("layer", row, count)
    graph = {
        "topology": topology,
        "kinds": tuple(row.get("kinds", ())),
        "depth": row.get("depth", chain_depth(row["layer_names"])),
    }
    return [
        Snapshot(
            epoch=row["epoch"][at], statistics=tuple(statistics[at]), layers=layers[at],
            **{name: row[name][at] for name in _SERIES}, **graph,
        )
        for at in range(count)
    ]  # fmt: skip


def _flatten(kind: str, series: Sequence[LayerNumbers]) -> dict[str, Any]:
    """Numbers per layer and snapshot as one list, snapshots innermost, without snapshots that have none."""
    kept = [layers for layers in series if layers]
    shape = {name: len(values) for name, values in kept[0].items()} if kept else {}
    if any({name: len(values) for name, values in layers.items()} != shape for layers in kept):
        raise CorpusError(f"the {kind} material of a run changes its layers between snapshots")
    rows = [[number for values in layers.values() for number in values] for layers in kept]
    flat = np.array(rows, dtype=np.float32)
    return {
        f"{kind}_names": list(shape),
        f"{kind}_widths": list(shape.values()),
        f"{kind}_present": [bool(layers) for layers in series],
        f"{kind}_values": flat.T.ravel(),
    }


def _unflatten(kind: str, row: dict[str, Any], count: int) -> list[LayerNumbers]:
    present, widths = row[f"{kind}_present"], row[f"{kind}_widths"]
    if f"{kind}_values" not in row:
        return [{} for _ in range(count)]
    flat = np.array(row[f"{kind}_values"], dtype=np.float32).reshape(sum(widths), sum(present)).T
    cuts = np.cumsum(widths)[:-1]
    rows = iter(flat)
    return [_named(row[f"{kind}_names"], np.split(next(rows), cuts)) if there else {} for there in present]


def _named(names: Sequence[str], parts: Sequence[Any]) -> LayerNumbers:
    return {name: tuple(part.tolist()) for name, part in zip(names, parts, strict=True)}


def thinned(record: RunRecord, horizon: float) -> RunRecord:
    """The record without numbers per layer after epoch `horizon`, except for the snapshot of a divergence."""
    kept = [snapshot.epoch <= horizon or not snapshot.finite for snapshot in record.snapshots]
    thin = [
        [
            snapshot if keep else replace(snapshot, layers={})
            for keep, snapshot in zip(kept, snapshots, strict=True)
        ]
        for snapshots in (record.snapshots, record.flow)
        if snapshots
    ]
    return replace(
        record,
        snapshots=thin[0] if record.snapshots else [],
        flow=thin[1] if record.flow else [],
        weights=[layers if keep else {} for keep, layers in zip(kept, record.weights, strict=True)],
    )


def horizon_of(record: RunRecord) -> float:
    """The epoch after which the record has no numbers per layer; infinite if it has all."""
    horizon = -1.0
    for snapshot, layers in zip(record.snapshots, record.weights, strict=True):
        if not layers:
            return horizon
        horizon = snapshot.epoch
    return math.inf


def horizons(records: Sequence[RunRecord], whole: float, bare: float, limit: float) -> Iterator[int]:
    """Horizons for `thinned`, from late to early, that may bring a file below a size.

    Horizons that would not, if every snapshot took the same space, are left out.

    Args:
        records: Of the corpus.
        whole: Size of the file with all numbers per layer.
        bare: Its size without any.
        limit: The largest size allowed, in the same unit.
    """
    epochs = [snapshot.epoch for record in records for snapshot in record.snapshots]
    for horizon in _HORIZONS:
        share = sum(epoch <= horizon for epoch in epochs) / max(len(epochs), 1)
        if share < 1 and bare + share * (whole - bare) <= limit:
            yield horizon
