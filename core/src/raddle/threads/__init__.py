# SPDX-License-Identifier: Apache-2.0
"""vCPUs, their host threads, and the two ways of scheduling them.

Lock order (a thread that holds one may take those further down only): the big lock, the engine's condition, the GIL,
the translator's lock, the back end's lock. The GIL is never held while the big lock is waited for: cffi releases it
around every call of the runtime.
"""

from raddle.threads.engine import Engine
from raddle.threads.vcpu import VCpu

__all__ = ["Engine", "VCpu"]
