"""Files that come from outside qatspec: only regular files are read, and only up to a limit; the
digests of their contents are remembered between commands."""

from qatspec.files.contents import content_digest, file_digest, file_digests, was_digested
from qatspec.files.reading import (
    how_to_read,
    open_file,
    parse_json,
    read_file,
    read_json,
    why_no_folder,
    why_unreadable,
)
from qatspec.files.writing import encoded, replacing, sweep, write_file

__all__ = [
    "content_digest",
    "encoded",
    "file_digest",
    "file_digests",
    "how_to_read",
    "open_file",
    "parse_json",
    "read_file",
    "read_json",
    "replacing",
    "sweep",
    "was_digested",
    "why_no_folder",
    "why_unreadable",
    "write_file",
]
