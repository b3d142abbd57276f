"""Files that come from outside qatspec: only regular files are read, and only up to a limit; the
digests of their contents are remembered between commands."""

from qatspec.files.contents import (
    cache_folder as cache_folder,
    content_digest as content_digest,
    file_digest as file_digest,
    file_digests as file_digests,
    was_digested as was_digested,
)
from qatspec.files.reading import (
    how_to_read as how_to_read,
    open_file as open_file,
    parse_json as parse_json,
    read_file as read_file,
    read_json as read_json,
    why_no_folder as why_no_folder,
    why_unreadable as why_unreadable,
)
from qatspec.files.twice import in_both as in_both
from qatspec.files.writing import (
    encoded as encoded,
    replacing as replacing,
    sweep as sweep,
    write_file as write_file,
)
