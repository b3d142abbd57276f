from __future__ import annotations

import ctypes
import platform

import pytest

from qatspec.train.process import keep_freed_memory


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
