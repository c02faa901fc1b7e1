#!/usr/bin/env bash
# Builds, with Go, the tools that check deploy/ and k8s/, into .cache/deploy/bin: compose-spec (the loader of docker
# compose) and, unless the system has kustomize or kubectl, kustomize.
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
