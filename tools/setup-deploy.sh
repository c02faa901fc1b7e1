#!/usr/bin/env bash
# Puts the tools that check deploy/ and k8s/ into .cache/deploy/bin. Go builds compose-spec (the loader of docker compose)
# and, unless the system has kustomize or kubectl, kustomize. promtool is taken out of the system's package of Prometheus,
# which is not installed: it would start a server.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

bin=.cache/deploy/bin
compose_go=v2.16.2
kustomize=v5.8.2

# build NAME VERSION MODULE: builds a Go command unless this version is there already.
build() {
    local name=$1 version=$2 module=$3
    if [ -x "$bin/$name" ] && [ "$(cat "$bin/$name.version" 2>/dev/null)" = "$version" ]; then return 0; fi
    have go || need_packages "Go" golang
    say "$name $version into $bin"
    mkdir -p "$bin"
    if ! GOBIN="$PWD/$bin/new" GOFLAGS=-trimpath go install "$module@$version" > "$bin/$name.log" 2>&1; then
        tail -n 3 "$bin/$name.log" >&2
        stop "Go could not build $name ($bin/$name.log); with a module proxy in reach, and Go 1.25 or newer, type: make setup-deploy"
    fi
    mv "$bin"/new/* "$bin/$name"
    rmdir "$bin/new"
    echo "$version" > "$bin/$name.version"
}

build compose-spec "$compose_go" github.com/compose-spec/compose-go/v2/cmd
have kustomize || kubectl kustomize --help >/dev/null 2>&1 || build kustomize "$kustomize" sigs.k8s.io/kustomize/kustomize/v5

# take_promtool: from Debian's package, unless the system has it.
take_promtool() {
    if have promtool || [ -x "$bin/promtool" ]; then return 0; fi
    have apt-get || stop "promtool is missing, and there is no apt-get here; install it with your system's packages: prometheus"
    say "promtool into $bin"
    local scratch prefix
    scratch=$(mktemp -d)
    if prefix=$(root_prefix); then $prefix apt-get update -qq >/dev/null 2>&1 || true; fi
    (cd "$scratch" && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb .) \
        || stop "the package prometheus could not be fetched; with the package lists in reach, type: make setup-deploy"
    mkdir -p "$bin"
    mv "$scratch/usr/bin/promtool" "$bin/promtool"
    rm -rf "$scratch"
}
take_promtool
