#!/bin/sh
# Debian's Chromium and axe-core, where they are missing. What cannot be installed is said in one line; the tests then say that they did not run.
tools=$(cd "$(dirname "$0")" && pwd)
target=$(dirname "$1")/browser

if ! command -v chromium > /dev/null && ! command -v chromium-browser > /dev/null && ! command -v google-chrome > /dev/null; then
    as_root=; [ "$(id -u)" = 0 ] || as_root="sudo -n"
    if command -v apt-get > /dev/null && $as_root true 2> /dev/null; then
        $as_root apt-get update -qq > /dev/null 2>&1
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null 2>&1 ||
            echo "Chromium could not be installed with apt-get: the browser tests will not run."
    else
        echo "Chromium is missing and cannot be installed here without Debian's apt-get and root: the browser tests will not run."
    fi
fi

if [ ! -e "$target/node_modules/axe-core/axe.min.js" ]; then
    mkdir -p "$target"
    cp "$tools/package.json" "$tools/package-lock.json" "$tools/.npmrc" "$target/"
    { command -v npm > /dev/null && npm ci --silent --prefix "$target" > /dev/null 2>&1; } ||
        echo "axe-core could not be installed (it needs npm): accessibility will not be judged."
fi
exit 0
