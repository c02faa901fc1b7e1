#!/bin/sh
# What an image installs, in the two steps that its Dockerfile runs; the tests run the same steps. From the root of the tree:
#   deploy/install.sh dependencies VENV EXTRAS [REQUIREMENT...]   what the extras of pyproject.toml ask for, at the versions of constraints.txt
#   deploy/install.sh package VENV FOLDER                         recdistill itself, built as a wheel and unpacked into FOLDER
# The two are apart so that a change of the source leaves the large layer of an image, its dependencies, as it was.
set -eu

# An empty build argument means none; uv takes it for a wrong one.
[ -n "${UV_TORCH_BACKEND:-}" ] || unset UV_TORCH_BACKEND

step=$1 venv=$2
shift 2
command -v uv >/dev/null || pip install --quiet --no-cache-dir --root-user-action ignore --constraint constraints.txt uv

case $step in
dependencies)
    extras=$1
    shift
    uv venv --quiet --no-project "$venv"
    # shellcheck disable=SC2046  # one option for each extra
    uv pip install --quiet --python "$venv" --constraint constraints.txt \
        --requirement pyproject.toml $(echo "$extras" | tr ',' '\n' | sed 's/^/--extra /') "$@"
    case ",$extras," in
    *,train,*)
        # torchrec's metadata asks for fbgemm's CUDA build, which does not load without a driver: take the CPU build beside it.
        uv pip install --quiet --python "$venv" --constraint constraints.txt --no-deps torchrec fbgemm-gpu-cpu
        ;;
    esac
    ;;
package)
    uv pip install --quiet --python "$venv" --build-constraints constraints.txt --no-deps --target "$1" .
    rm -rf "${1:?}/bin" # `python -m recdistill` needs no script
    ;;
*)
    echo "deploy/install.sh: the steps are dependencies and package, not $step" >&2
    exit 2
    ;;
esac
