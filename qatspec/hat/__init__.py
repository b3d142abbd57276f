"""Configs of Horizon's HAT (Python files) as specs. The config is read, never executed."""

from qatspec.hat.spec import Imported as Imported, import_config as import_config
