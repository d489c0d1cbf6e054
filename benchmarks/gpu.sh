#!/usr/bin/env bash
# All that is measured on a GPU, into one JSON file, in under eight minutes.
#
#     benchmarks/gpu.sh [FILE]         FILE: build/gpu.json if none is given; $PYTHON: the interpreter, python3
#
# It builds and fetches nothing: the interpreter must have PyTorch with CUDA and what sgabench needs. Each part has a
# time limit, so that one that fails costs no other; the file says what failed, and how.
#
# Exit code: 0; 1 if a part failed; 2 if sgabench cannot be imported; 3 without CUDA. With 2 and 3 nothing was measured.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
output=${1:-$root/build/gpu.json}
python=${PYTHON:-python3}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

"$python" -c 'import sys, torch, torch_pruning, sgabench.cli; sys.exit(0 if torch.cuda.is_available() else 3)'
case $? in
0) ;;
3)
    echo "gpu.sh: no CUDA here, so nothing was measured" >&2
    exit 3
    ;;
*)
    echo "gpu.sh: $python lacks a package that sgabench needs" >&2
    exit 2
    ;;
esac

parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# part NAME SECONDS ARGUMENTS...
part() {
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    echo "gpu.sh: $name (at most $limit s)" >&2
    timeout -k 2 "$limit" "$python" -m sgabench bench "$@" --device cuda --format json \
        >"$parts/$name.json" 2>"$parts/$name.err"
    echo "$? $((SECONDS - started)) $limit" >"$parts/$name.exit"
}

part training 190 training --models resnet20 --models resnet56 --models resnet110
part pruning 110 pruning
part inference 80 inference
part optimizers 70 optimizers

"$python" "$root/benchmarks/gather.py" "$parts" "$output" training pruning inference optimizers
