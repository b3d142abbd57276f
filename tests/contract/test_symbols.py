"""The committed table of torch's names is what torch has."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from qatspec.registry import registry
from qatspec.schema import torch_symbols

_PATH = Path(__file__).parents[1] / "bench" / "torch_symbols.py"
_SPEC = importlib.util.spec_from_file_location("qatspec_torch_symbols", _PATH)
generator = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generator)


def test_fresh():
    if torch.__version__.partition("+")[0] != torch_symbols()["torch"]:
        pytest.skip("the table is that of another torch")
    assert generator.FILE.read_text() == generator.written(), "run tests/bench/torch_symbols.py"


def test_every_spelling_of_an_op_is_in_it():
    namespaces = torch_symbols()["namespaces"]
    for spellings in registry().spellings().values():
        for spelling in spellings:
            namespace, _, name = spelling.rpartition(".")
            if namespace.startswith("qatspec."):
                continue  # what a pass puts in the place of torch's
            assert name in namespaces[namespace], f"{spelling}: run tests/bench/torch_symbols.py"


def test_it_is_small():
    assert len(json.dumps(torch_symbols())) < 60_000
