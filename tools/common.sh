# shellcheck shell=bash
# Functions that the set-up scripts share. This file is sourced, never run.

say() { printf '==> %s\n' "$*" >&2; }
stop() { printf 'recdistill: %s\n' "$*" >&2; exit 1; }

# have COMMAND: is it on the path?
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the prefix that runs a command as root: nothing for root, or sudo if it needs no password. Otherwise it fails.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then return 0; fi
    if have sudo && sudo -n true 2>/dev/null; then echo "sudo -n"; return 0; fi
    return 1
}

# need_packages WHY PACKAGE...: installs Debian packages, or stops with the line to type. `a|b`: the first that exists.
need_packages() {
    local why=$1 prefix choice name packages=()
    shift
    have apt-get || stop "$why is missing, and there is no apt-get here; install it with your system's packages: $*"
    if prefix=$(root_prefix); then
        say "$why is missing: installing it with apt-get"
        # shellcheck disable=SC2086  # the prefix is empty or two words
        $prefix apt-get update -qq >/dev/null || stop "the package lists could not be fetched; type: sudo apt-get update"
    fi
    for choice in "$@"; do
        for name in ${choice//|/ }; do
            if apt-cache policy "$name" 2>/dev/null | grep -q 'Candidate: [^(]'; then break; fi
            name=${choice%%|*}
        done
        packages+=("$name")
    done
    local line="apt-get install -y ${packages[*]}"
    root_prefix >/dev/null || stop "$why is missing; type: sudo $line"
    # shellcheck disable=SC2086
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null \
        || stop "$why could not be installed; type: sudo $line"
}

# Gives pip's settings (certificate, indexes, wheel folders, time-out) to uv, unless uv has its own.
uv_settings_from_pip() {
    # pip also finds a certificate in its own files. A company's authority may stand only there, or in the system's store.
    if [ -z "${PIP_CERT:-}${SSL_CERT_FILE:-}" ] && [ -x "${1:-.venv/bin/pip}" ]; then
        local cert
        cert=$("${1:-.venv/bin/pip}" config list 2>/dev/null | sed -n "s/^\(global\|install\)\.cert='\(.*\)'\$/\2/p" | tail -n 1) || cert=""
        if [ -n "$cert" ]; then export SSL_CERT_FILE="$cert"; fi
    fi
    if [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] || [ -s /etc/ssl/cert.pem ]; then
        export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
    fi
    if [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"; fi
    if [ -n "${PIP_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"; fi
    if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then export UV_INDEX="${UV_INDEX:-$PIP_EXTRA_INDEX_URL}"; fi
    if [ -n "${PIP_DEFAULT_TIMEOUT:-}" ]; then export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-$PIP_DEFAULT_TIMEOUT}"; fi
    if [ -n "${PIP_NO_INDEX:-}" ]; then export UV_NO_INDEX="${UV_NO_INDEX:-$PIP_NO_INDEX}"; fi
    if [ -n "${PIP_FIND_LINKS:-}" ] && [ -z "${UV_FIND_LINKS:-}" ]; then
        local place found=""
        for place in $PIP_FIND_LINKS; do
            # uv refuses a folder that does not exist; pip ignores it.
            case $place in *://*) ;; *) [ -d "$place" ] || continue ;; esac
            found="${found:+$found,}$place"
        done
        if [ -n "$found" ]; then export UV_FIND_LINKS="$found"; fi
    fi
}
