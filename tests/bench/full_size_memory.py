"""One training step of the community tutorial's models at full size: seconds, and peak memory.

    python tests/bench/full_size_memory.py [--models SPEC ...] [--batch 1]

Forward, loss and backward of made-up pictures, float, each model in a process of its own. With one
picture batch norms are frozen: DeepLabV3+ takes the mean of the whole picture, one value a channel.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SPECS = Path(__file__).resolve().parents[2] / "specs"
MODELS = (
    "fcos_efficientnetb0_mscoco",
    "fcos_efficientnetb2_mscoco",
    "fcos_efficientnetb3_mscoco",
    "yolo_s_mscoco",
    "deeplabv3plus_efficientnetm2_cityscapes",
)


def step(name: str, batch: int) -> dict[str, object]:
    """Build the spec's model and train it for one step on a picture of plain shapes."""
    import resource
    import tempfile

    import numpy as np
    import torch

    from qatspec.api import load, registry
    from qatspec.quant.fold import freeze_batch_norm

    spec = load(SPECS / f"{name}.yaml")
    model = registry().model(spec.model.type).build(spec.model.params).train()
    role = spec.data["val"].dataset  # whole pictures, without augmentation
    params = {**role.params, "made_up": batch}
    with tempfile.TemporaryDirectory() as folder:
        data = registry().dataset(role.type).open(params, Path(folder), Path(folder))
        samples = [data.sample(i, np.random.default_rng(i)) for i in range(batch)]
    images = torch.from_numpy(np.stack([s.image for s in samples]))
    targets = [{k: torch.from_numpy(np.asarray(v)) for k, v in s.target.items()} for s in samples]
    if batch == 1:
        freeze_batch_norm(model, True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, busy = time.perf_counter(), time.process_time()
    losses = model.loss(model(images), targets)
    sum(losses.values()).backward()
    return {
        "input": "x".join(map(str, images.shape)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - busy,
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "finite": all(
            bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(step(given.alone, given.batch)))
        return
    print("| spec | input | parameters | seconds | CPU seconds | MiB before | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    # Pictures are made up, but the specs ask where the data lies.
    places = {"COCO_ROOT": "none", "CITYSCAPES_ROOT": "none"}
    fine = True
    for name in given.models:
        found = subprocess.run(
            [sys.executable, __file__, "--alone", name, "--batch", str(given.batch)],
            env={**os.environ, **places, "OMP_NUM_THREADS": str(given.threads)},
            check=True,
            stdout=subprocess.PIPE,
        )
        row = json.loads(found.stdout)
        fine &= row["finite"]
        print(
            f"| {name} | {row['input']} | {row['parameters'] / 1e6:.2f} M | {row['seconds']:.1f} "
            f"| {row['cpu']:.1f} | {row['before']:.0f} | {row['peak']:.0f} |",
            flush=True,
        )
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
