# SPDX-License-Identifier: Apache-2.0
"""Any octets as an CSMB message, and as a CSMB stream.  Arguments are libFuzzer's:

python tests/fuzz/fuzz_csmb.py -max_total_time=60 tests/fuzz/corpus/csmb
python tests/fuzz/fuzz_csmb.py build/fuzz/csmb/crash-...      # that input again
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["csmb", "ssmb"]):
    from support.fuzz_arguments import arguments
    from support.octets.wire_checks import check_csmb

if __name__ == "__main__":
    atheris.Setup(arguments(sys.argv, "csmb"), check_csmb)
    atheris.Fuzz()
