"""The running process: signals that interrupt it, and folders that it alone uses."""

from qatspec.process.scratch import folder_being_made, scratch_folder, sweep_scratch

__all__ = ["folder_being_made", "scratch_folder", "sweep_scratch"]
