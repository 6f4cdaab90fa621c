"""The training program for torchrun, with accelerate patched to shard on CPUs as on GPUs.

accelerate enables FSDP by kind of device, so a kind that tests never have is mapped to the CPU.
"""

import sys

import accelerate.state

from intent_core.training.__main__ import main

KINDS = accelerate.state.DistributedType


class CpusShard:
    """`DistributedType`, in which CPUs are of a kind that accelerate shards on."""

    def __getattr__(self, name: str) -> object:
        return getattr(KINDS, "MULTI_CPU" if name == "MULTI_SDAA" else name)


if __name__ == "__main__":
    accelerate.state.DistributedType = CpusShard()
    sys.exit(main(sys.argv[1:]))
