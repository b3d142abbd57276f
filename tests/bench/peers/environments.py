"""A virtual environment for each peer, and the ONNX file that the peer makes of a net."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import torch

#: Arguments of each `pip install` that a peer needs beside torch, onnx and onnxruntime, with the
#: versions that were tried.
PACKAGES: dict[str, tuple[str, ...]] = {
    "fx_qnnpack": (),
    "pt2e": ("--no-deps torchao==0.18.0", "onnxscript"),
    "brevitas": ("brevitas==0.13.4 onnxoptimizer",),
    "modelopt": ("nvidia-modelopt==0.47.0 requests huggingface_hub",),
    "nncf": ("nncf==3.4.0 torchao",),
    "aimet": (
        "--no-deps aimet-torch==2.42.0",  # it would bring torchvision for CUDA
        "tqdm bokeh holoviews hvplot pandas cvxpy osqp onnxscript onnx_ir tensorboard matplotlib "
        "safetensors networkx",
    ),
    "mct": (
        "--no-deps model-compression-toolkit==2.6.1 mct-quantizers edge-mdt-cl PuLP "
        "torchvision==0.28.0",  # each would bring torch for CUDA
        "scikit-image tqdm tensorboard matplotlib networkx<3.6 pydantic<2.12",
    ),
}


def export(peer: str, model: torch.nn.Module, x: torch.Tensor, venvs: Path, folder: Path) -> Path:
    """Let a peer quantize a net.

    model: in eval mode. x: its example input, which also calibrates. venvs: where the environments
    are, or are made. Returns the ONNX file, in `folder`. Raises RuntimeError with what the peer
    printed where it fails.
    """
    python = interpreter(peer, venvs)
    net, out = folder / f"{peer}.pt", folder / f"{peer}.onnx"
    torch.save((model, x), net)
    script = Path(__file__).parent / f"with_{peer}.py"
    root = str(Path(__file__).parents[3])  # the net's classes may be those of the tests
    run = subprocess.run(
        [python, script, net, out], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    if run.returncode or not out.exists():
        lines = (run.stderr or run.stdout).strip().splitlines()
        raise RuntimeError(f"{peer}: {lines[-1] if lines else run.returncode}")
    return out


def interpreter(peer: str, venvs: Path) -> Path:
    """The interpreter of the peer's environment, which is made where there is none."""
    home = venvs / peer
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        (own,) = (home / "lib").glob("python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (own / "zz_parent.pth").write_text("\n".join(lines) + "\n")
        for arguments in PACKAGES[peer]:
            install = [python, "-m", "pip", "install", "-q", *arguments.split()]
            subprocess.run(install, check=True)
        (home / "ready").touch()
    return python


def given() -> tuple[torch.nn.Module, torch.Tensor, str]:
    """Of a peer's script: the net in eval mode, its example input, the file to write."""
    model, x = torch.load(sys.argv[1], weights_only=False)
    torch.manual_seed(0)
    return model.eval(), x, sys.argv[2]
