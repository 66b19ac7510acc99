# SPDX-License-Identifier: Apache-2.0
"""vCPUs, their host threads, and the two ways of scheduling them.

Lock order (a thread that holds a lock may take only later ones): the big lock, the engine's condition, the GIL, the
translator's lock, the back end's lock. No thread waits for the big lock while it holds the GIL: cffi releases the GIL
around every call of the runtime.
"""

from raddle.threads.engine import Engine
from raddle.threads.vcpu import VCpu

__all__ = ["Engine", "VCpu"]
