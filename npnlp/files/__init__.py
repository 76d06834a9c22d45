"""Whole-file writing, strict JSON, tensors and locks."""

from npnlp.files.writing import (
    TEMPORARY,
    fill_section,
    lock,
    make_folder,
    markdown_table,
    remove_leftovers,
    replacing,
    write_atomic,
    write_csv,
    write_json,
    write_parts,
    write_table,
)

__all__ = [
    "TEMPORARY",
    "fill_section",
    "lock",
    "make_folder",
    "markdown_table",
    "remove_leftovers",
    "replacing",
    "write_atomic",
    "write_csv",
    "write_json",
    "write_parts",
    "write_table",
]
