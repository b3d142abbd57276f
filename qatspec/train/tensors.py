"""Files of torch.save and safetensors, read without running code from them."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from qatspec.diag.words import quote_list
from qatspec.files import open_file
from qatspec.plan.checkpoints import demand_stored

#: In front of what torch's restricted unpickler met, in its errors.
_MET = "WeightsUnpickler error: "
#: How the lines begin that torch puts around it.
_ADVICE = ("Weights only load failed", "Check the documentation of torch.load")
#: Pickles at the beginning of a file of torch before 1.6: a number that marks the format, its
#: version, the machine, and what was saved.
_PICKLES_BEFORE_1_6 = 4
#: Modules by the names that pickle's protocol 2 writes.
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def load_tensors(path: Path, *, omit_objects: bool = False) -> Any:
    """Return what `torch.save` wrote to `path`, on the CPU.

    An archive whose entries are compressed is refused: torch.save compresses nothing, and a small
    compressed file may expand to more than the memory.

    omit_objects: put an `Omitted` in place of each object of a class that torch does not read
    without running its code (options, numbers of numpy, whole modules); default: refuse them.

    Raises OSError where it cannot be read, and ValueError with the reason where it is damaged.
    """
    with open_file(path) as file:
        try:
            if zipfile.is_zipfile(file):
                demand_stored(zipfile.ZipFile(file))
            if not omit_objects:
                return _load(file)
            try:
                return _load(file)
            except pickle.UnpicklingError:
                if names := _classes(file):
                    return _load_without(file, names)
                raise
        except Exception as error:  # torch's unpickler may raise anything of damaged bytes
            raise ValueError(_reason(error)) from error


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors, on the CPU.

    Raises OSError where it cannot be read, and ValueError with the reason where it is damaged.
    """
    from safetensors.torch import load

    with open_file(path) as file:
        data = file.read()
    try:
        tensors: dict[str, Tensor] = load(data)
    except Exception as error:  # SafetensorError, and KeyError for a dtype that torch lacks
        raise ValueError(str(error)) from error
    return tensors


class Omitted:
    """Stands for an object of a file whose class is not read. It runs nothing from the file.

    class_name  the name of the class, with its module.
    is_module   whether its state is that of an nn.Module.
    """

    class_name = ""
    is_module = False

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.is_module = isinstance(state, dict) and {"_parameters", "_modules"} <= state.keys()


class _OmittedMapping:
    """Stands for the class of an object with entries, which are kept: a plain mapping."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        return OrderedDict()


def _load(file: BinaryIO) -> Any:
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def _load_without(file: BinaryIO, names: list[str]) -> Any:
    """Load with stand-ins for the classes `names`; in the second try, for those of mappings (a
    configuration that is a subclass of dict) as well."""
    for stand_in in (Omitted, _OmittedMapping):
        with contextlib.suppress(pickle.UnpicklingError), _standing_in(names, stand_in):
            return _load(file)
    raise ValueError(f"it holds objects of {quote_list(names)}")


def _classes(file: BinaryIO) -> list[str]:
    """Names of the classes and functions in a file of torch.save that torch does not read."""
    file.seek(0)
    if zipfile.is_zipfile(file):
        file.seek(0)
        return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    file.seek(0)
    pickles = itertools.repeat(file, _PICKLES_BEFORE_1_6)
    opcodes = itertools.chain.from_iterable(map(pickletools.genops, pickles))
    names = {str(argument) for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"}
    pairs = (name.split(" ", 1) for name in sorted(names))
    return [f"{_PYTHON_2.get(module, module)}.{name}" for module, name in pairs]


def _reason(error: Exception) -> str:
    """What went wrong, in one line: without torch's advice on unsafe files around it."""
    lines = [line.partition(_MET)[2] or line for line in str(error).splitlines() if line.strip()]
    told = [line.strip() for line in lines if not line.startswith(_ADVICE)]
    return (told or [f"{type(error).__name__} while it was read"])[0]


@contextlib.contextmanager
def _standing_in(names: list[str], stand_in: type) -> Iterator[None]:
    """torch's restricted unpickler takes `stand_in` for each of the classes and functions
    `names`; numpy's have no entries."""
    chosen = [
        (type(stand_in.__name__, (Omitted if n.startswith("numpy") else stand_in,),
              {"class_name": n}), n)
        for n in names
    ]  # fmt: skip
    with torch.serialization.safe_globals(chosen):  # type: ignore[arg-type]
        yield
