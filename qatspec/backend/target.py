"""What the backend reads of a march: its name, the figures of its hardware, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qatspec.ir import Op
from qatspec.types import Capabilities, Hardware, HostCpu, OpSupport


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A march as the backend sees it.

    march, version  name of the march, and version of its capabilities.
    hardware        figures of the model of time and memory.
    ops             integer kind -> what the march takes of it.
    host            the CPU beside the chip, and what runs there; None: nothing does.
    """

    march: str
    version: int
    hardware: Hardware
    ops: Mapping[str, OpSupport]
    host: HostCpu | None = None

    @classmethod
    def of(cls, march: str, version: int, capabilities: Capabilities) -> Target:
        """Return the figures of version `version` of `march`. Raises ValueError where the
        `capabilities` lack hardware or ops."""
        if capabilities.hardware is None or capabilities.ops is None:
            raise ValueError(f"march `{march}` states no hardware or no ops")
        return cls(
            march=march,
            version=version,
            hardware=capabilities.hardware,
            ops=capabilities.ops,
            host=capabilities.host,
        )

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON, for the compiled file."""
        figures = asdict(self.hardware)
        del figures["fitted"]
        if not figures["ddr_stall"]:  # files of marches without it keep their bytes
            del figures["ddr_stall"]
        record = {"march": self.march, "version": self.version, **figures, "ops": {}}
        if self.host is not None:
            record["host"] = {**asdict(self.host), "ops": dict(self.host.ops)}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Target:
        """Return the target whose `record` this is. Raises KeyError, TypeError or ValueError on a
        broken one."""
        figures = dict(record)
        march, version, _ = (figures.pop(key) for key in ("march", "version", "ops"))
        host = figures.pop("host", None)
        return cls(
            march=march,
            version=version,
            hardware=Hardware(**figures),
            ops={},
            host=HostCpu(**host) if host is not None else None,
        )

    def on_host(self, op: Op) -> str | None:
        """Return why the chip leaves `op` to the CPU, None where it does not."""
        if self.host is None:
            return None
        reasons = self.host.ops
        return reasons.get(op.origin.op, reasons.get(op.kind))

    def cycles_to_us(self, cycles: float) -> float:
        """Return the time of `cycles` of one core, in microseconds."""
        return cycles / self.hardware.clock_mhz


def align(size: int, to: int) -> int:
    """The smallest multiple of `to` that holds `size`."""
    return -(-size // to) * to
