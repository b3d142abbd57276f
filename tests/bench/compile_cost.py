"""What compiling costs: seconds of CPU, peak memory and the result, one net and level a run.

    python tests/bench/compile_cost.py vgg16 --march bayes_e --opt O2

Nets are those of `qatspec_horizon.published` at 224 px; weights are random, no frame is verified.
"""

from __future__ import annotations

import argparse
import resource
import time

from qatspec_horizon.published import nets

from qatspec.api import Program, compile, perf


def vgg16() -> Program:
    """VGG-16 (arXiv:1409.1556); its linear layers are convolutions of all that is left."""
    net = nets.Net("vgg16", 224)
    x = net.image
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = net.conv(x, channels, 3)
        x = net.max_pool(x)
    x = net.conv(x, 4096, 7, 7)
    x = net.conv(x, 4096, 1)
    return net.classify(x, 1000)


NETS = {
    "vgg16": vgg16,
    "resnet50": nets.resnet50,
    "mobilenet_v2": nets.mobilenet_v2,
    "mobilenet_v1": nets.mobilenet_v1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=list(NETS))
    parser.add_argument("--march", default="bayes_e")
    parser.add_argument("--opt", default="O2")
    given = parser.parse_args()
    program = NETS[given.net]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.process_time()
    artifact = compile(program, given.march, opt=given.opt, verify=False)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    summary = perf(artifact)["summary"]
    print(
        f"{given.net} for {given.march} at {given.opt}: {seconds:.1f} s of CPU, peak memory "
        f"{peak:.2f} GiB ({before:.2f} before), latency {summary['latency (ms)']:.3f} ms, "
        f"{summary['DDR megabytes per frame']:.1f} MB through DDR"
    )


if __name__ == "__main__":
    main()
