#!/usr/bin/env bash
# Write the locked dependencies anew: exact versions with the hashes of their files, and no word of
# where they came from.  Needs pip-tools: pip install pip-tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CUSTOM_COMPILE_COMMAND=requirements/lock.sh
lock() {
    local output=$1
    shift
    compile "$output" "$@" pyproject.toml
}
compile() {
    local output=$1
    shift
    pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host --no-emit-options \
        --output-file "requirements/$output.txt" "$@"
}
lock run --extra api --extra bpf --extra p4 --extra tracing
lock dev --extra api --extra bpf --extra p4 --extra tracing --extra drill --extra dev --constraint requirements/run.txt
lock fuzz --extra api --extra bpf --extra p4 --extra tracing --extra drill --extra dev --extra fuzz --constraint requirements/dev.txt
compile compile requirements/compile.in --constraint requirements/dev.txt
compile p4shell requirements/p4shell.in
