# SPDX-License-Identifier: Apache-2.0
"""Any octets as the beginning of a TLS connection, of either side.  Arguments are libFuzzer's:

python tests/fuzz/fuzz_tls.py -max_total_time=60 tests/fuzz/corpus/tls
python tests/fuzz/fuzz_tls.py build/fuzz/tls/crash-...      # that input again
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["packets"]):
    from support.fuzz_arguments import arguments
    from support.octets.extraction_checks import check_tls

if __name__ == "__main__":
    atheris.Setup(arguments(sys.argv, "tls"), check_tls)
    atheris.Fuzz()
