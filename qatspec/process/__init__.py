"""The running process: signals that interrupt it, and folders that it alone uses."""

from qatspec.process.scratch import (
    folder_being_made as folder_being_made,
    scratch_folder as scratch_folder,
    sweep_scratch as sweep_scratch,
)
