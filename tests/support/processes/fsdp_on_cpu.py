"""The training program for torchrun, with accelerate made to shard on CPUs as it does on GPUs.

Its FSDP goes by the kind of device: a kind that nobody has here stands for the CPU.
"""

import sys

import accelerate.state

from intent_core.training.__main__ import main

KINDS = accelerate.state.DistributedType


class CpusShard:
    """`DistributedType`, but that CPUs are of a kind that accelerate shards on."""

    def __getattr__(self, name: str) -> object:
        return getattr(KINDS, "MULTI_CPU" if name == "MULTI_SDAA" else name)


if __name__ == "__main__":
    accelerate.state.DistributedType = CpusShard()
    sys.exit(main(sys.argv[1:]))
