from __future__ import annotations

import json
import shutil
import struct
import subprocess

import numpy as np
import pytest

from qatspec.lower import lower
from qatspec.program.outputs import identifier, outputs_header, outputs_record

MAIN = """
#include <stdio.h>
#include <string.h>
#include "net-outputs.h"
int main(void) {
    for (int i = 0; i < MY_NET_OUTPUT_COUNT; i++) {
        const my_net_output *o = &my_net_outputs[i];
        printf("%s|%s|%d|%d|", o->name, o->layout, o->bytes, o->axis);
        for (int k = 0; k < o->rank; k++) printf("%d ", (int)o->shape[k]);
        printf("|");
        for (int k = 0; k < o->scales; k++) {
            unsigned bits;
            memcpy(&bits, &o->scale[k], sizeof bits);
            printf("%08x ", bits);
        }
        printf("\\n");
    }
    return 0;
}
"""


@pytest.fixture
def program(everything):
    prepared, x = everything
    return lower(prepared, (x,), name="my-net")


def bits(scale) -> list[str]:
    return [struct.pack(">f", v).hex() for v in scale]


@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_a_compiler_reads_every_bit(program, tmp_path, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} here")
    (tmp_path / "net-outputs.h").write_text(outputs_header(program))
    source = tmp_path / ("main.c" if compiler == "cc" else "main.cpp")
    source.write_text(MAIN)
    standard = "-std=c99" if compiler == "cc" else "-std=c++17"
    binary = tmp_path / "main"
    command = [compiler, standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-o", binary, source]
    subprocess.run(command, check=True)
    lines = subprocess.run([binary], check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(program.outputs) == 4
    for line, port in zip(lines, program.outputs, strict=True):
        name, layout, size, axis, shape, scale = line.split("|")
        assert (name, layout, int(size)) == (port.name, port.layout, 4)
        assert int(axis) == (-1 if port.axis is None else port.axis)
        assert tuple(map(int, shape.split())) == port.shape
        assert scale.split() == bits(port.scale)


def test_json_holds_the_ports(program):
    record = json.loads(json.dumps(outputs_record(program)))
    assert record["format"] == 1
    assert [o["name"] for o in record["outputs"]] == [p.name for p in program.outputs]
    for row, port in zip(record["outputs"], program.outputs, strict=True):
        assert (row["dtype"], row["shape"], row["axis"]) == ("int32", list(port.shape), port.axis)
        assert np.array_equal(np.array(row["scale"], np.float32), port.scale)
    assert any(len(row["scale"]) > 1 for row in record["outputs"])
    assert record["tree"] == program.tree


def test_the_same_program_gives_the_same_text(program, everything):
    prepared, x = everything
    again = lower(prepared, (x,), name="my-net")
    assert outputs_header(again) == outputs_header(program)


def test_names_become_identifiers():
    assert identifier("quick-start.v2") == "quick_start_v2"
    assert identifier("2net") == "m2net"
