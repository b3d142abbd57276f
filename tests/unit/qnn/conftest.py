"""The vendor's package, where it is installed; a net that has been calibrated."""

from __future__ import annotations

import pytest


@pytest.fixture
def qnn():
    """Skip a test where onnxruntime-qnn is not installed."""
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("onnxruntime_qnn", reason="onnxruntime-qnn is not installed")
