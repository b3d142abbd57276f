from __future__ import annotations

import ctypes
import platform

import pytest
import torch

from qatspec.train.process import fill_new_memory, keep_freed_memory, make_repeatable


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    monkeypatch.setattr("os.environ", {})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc has these settings")
def test_glibc_takes_the_settings():
    """It refuses a threshold above its maximum."""
    assert keep_freed_memory()


def test_settings_of_the_environment_stay(monkeypatch):
    monkeypatch.setattr("os.environ", {"MALLOC_TRIM_THRESHOLD_": "131072"})
    assert not keep_freed_memory()


def test_another_c_library(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()


def test_kernels_are_deterministic_and_new_memory_is_not_filled():
    try:
        make_repeatable(0, "float")
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        fill_new_memory(True)
        assert torch.empty(4).isnan().all()
    finally:
        torch.set_deterministic_debug_mode("default")
        fill_new_memory(True)
