# SPDX-License-Identifier: Apache-2.0
"""Any octets as an SSMB datagram.  Arguments are libFuzzer's:

python tests/fuzz/fuzz_ssmb.py -max_total_time=60 tests/fuzz/corpus/ssmb
python tests/fuzz/fuzz_ssmb.py build/fuzz/ssmb/crash-...      # that input again
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["ssmb"]):
    from support.fuzz_arguments import arguments
    from support.octets.wire_checks import check_ssmb

if __name__ == "__main__":
    atheris.Setup(arguments(sys.argv, "ssmb"), check_ssmb)
    atheris.Fuzz()
