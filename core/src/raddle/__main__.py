# SPDX-License-Identifier: Apache-2.0
"""`python -m raddle` is the command `raddle`."""

import sys

from raddle_command import main

if __name__ == "__main__":
    sys.exit(main())
