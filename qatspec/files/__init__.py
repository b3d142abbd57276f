"""Files that come from outside qatspec: only regular files are read, and only up to a limit."""

from qatspec.files.reading import open_file, read_file, why_no_folder, why_unreadable

__all__ = ["open_file", "read_file", "why_no_folder", "why_unreadable"]
