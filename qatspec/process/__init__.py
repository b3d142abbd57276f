"""The running process: signals that interrupt it, its garbage collector, and folders that it alone
uses."""

from qatspec.process.garbage import garbage_kept as garbage_kept
from qatspec.process.scratch import (
    folder_being_made as folder_being_made,
    scratch_folder as scratch_folder,
    sweep_scratch as sweep_scratch,
)
