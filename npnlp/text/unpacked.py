"""The text of a file as UTF-8, whatever it is packed in: gzip, UTF-16 with its mark, Parquet."""

from __future__ import annotations

import codecs
import io
import os
import stat
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from npnlp.errors import InputError, short

#: The byte-order mark of UTF-8, and those of UTF-16.
MARK = b"\xef\xbb\xbf"
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
#: Seconds that a pipe has to be silent for what came from it to be answered.
SILENCE = 0.002
#: Rows of a Parquet file that are read at once.
ROWS = 2**16


def unpacked(file: BinaryIO, source: str, size: int) -> Iterator[bytes]:
    """The file, which messages call ``source``, as UTF-8 without a byte-order mark.

    It comes in pieces of ``size`` bytes or so; of a pipe or a terminal, as soon as it falls silent.
    A Parquet file comes as CSV. Raises :class:`InputError` for what is damaged, or a spreadsheet.
    """
    held: Any = file if hasattr(file, "peek") else io.BufferedReader(file)
    begin = held.peek(len(PARQUET))[: len(PARQUET)]
    if begin.startswith(GZIP):
        yield from _of_gzip(held, source, size)
    elif begin == PARQUET:
        yield from _of_parquet(held, source)
    elif begin == ZIP:
        raise InputError(f"{source}: a spreadsheet (.xlsx, .ods) or a .zip; save its table as CSV")
    elif begin.startswith(UTF16):
        yield from _of_utf16(_pieces(held, size), source)
    else:
        if begin.startswith(MARK):
            held.read(len(MARK))
        yield from _pieces(held, size)


def _pieces(file: Any, size: int) -> Iterator[bytes]:
    if not _is_live(file):
        while piece := file.read(size):
            yield piece
        return
    while piece := file.read1(size):
        more = True
        while more and len(piece) < size and _has_more(file):
            more = file.read1(size)
            piece += more
        yield piece
        if not more:
            return


def _is_live(file: Any) -> bool:
    """Whether somebody may be waiting for an answer at the other end."""
    try:
        return not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError:  # in memory
        return False


def _has_more(file: Any) -> bool:
    import select

    try:
        return bool(select.select([file], [], [], SILENCE)[0])
    except (OSError, ValueError):  # Windows asks sockets only
        return False


def _of_gzip(file: Any, source: str, size: int) -> Iterator[bytes]:
    import gzip  # only where it is needed: a prediction starts cold

    try:
        with gzip.GzipFile(fileobj=file) as inside:
            yield from unpacked(inside, source, size)  # type: ignore[arg-type]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{source}: damaged gzip: {error}; compress it again") from error


def _of_utf16(pieces: Iterator[bytes], source: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: damaged UTF-16; save the file as UTF-8") from error


def _of_parquet(file: Any, source: str) -> Iterator[bytes]:
    try:
        from pyarrow import csv, parquet
    except Exception as error:  # it may be there and broken
        raise InputError(
            f"{source}: reading Parquet needs the package pyarrow ({error}); install it, or save "
            "the table as CSV"
        ) from error
    try:
        table = parquet.ParquetFile(file if file.seekable() else io.BytesIO(file.read()))
        options = csv.WriteOptions(include_header=True)
        for batch in table.iter_batches(batch_size=ROWS):
            rows = io.BytesIO()
            csv.write_csv(batch, rows, options)
            yield rows.getvalue()
            options.include_header = False
        if options.include_header:
            yield ",".join(f'"{name}"' for name in table.schema_arrow.names).encode() + b"\n"
    except (OSError, ValueError, NotImplementedError) as error:  # Arrow's are kinds of these
        what = short(" ".join(str(error).split()), 200)
        raise InputError(f"{source}: cannot be read as Parquet: {what}") from error
