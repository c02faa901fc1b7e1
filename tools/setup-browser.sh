#!/usr/bin/env bash
# Fetches what the browser tests need: Chromium and Node.js from the system's packages; playwright-core, axe-core, and
# onnxruntime-web for the device file in the live demo, into .cache/browser.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

home=.cache/browser
version=1.65.1
runtime=1.23.2
axe=4.14.1

have chromium || have chromium-browser || have google-chrome || need_packages "Chromium" chromium
have node || need_packages "Node.js" nodejs
if [ "$(cat "$home/stamp" 2>/dev/null)" = "$version $runtime $axe" ]; then exit 0; fi
if [ -n "${PIP_CERT:-}" ]; then export NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-$PIP_CERT}"; fi
have npm || need_packages "npm" npm
say "playwright-core $version, onnxruntime-web $runtime and axe-core $axe into $home"
mkdir -p "$home"
# playwright-core has no browser of its own; the tests give it the system's Chromium.
npm install --prefix "$home" --no-audit --no-fund --no-save --silent "playwright-core@$version" "onnxruntime-web@$runtime" "axe-core@$axe" \
    || stop "npm could not fetch playwright-core, onnxruntime-web and axe-core; with a registry in reach, type: make setup-browser"
echo "$version $runtime $axe" > "$home/stamp"
