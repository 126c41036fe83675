# SPDX-License-Identifier: Apache-2.0
"""Any octets as the beginning of an HTTP request.  Arguments are libFuzzer's:

python tests/fuzz/fuzz_http.py -max_total_time=60 tests/fuzz/corpus/http
python tests/fuzz/fuzz_http.py build/fuzz/http/crash-...      # that input again
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["packets"]):
    from support.fuzz_arguments import arguments
    from support.octets.extraction_checks import check_http

if __name__ == "__main__":
    atheris.Setup(arguments(sys.argv, "http"), check_http)
    atheris.Fuzz()
