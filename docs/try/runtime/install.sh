#!/bin/sh
# LiteRT.js, which runs the network in the reader's browser, where it is missing. What cannot be installed is said in one line.
here=$(cd "$(dirname "$0")" && pwd)
target=$(dirname "$1")/runtime

if ! cmp -s "$here/package-lock.json" "$target/package-lock.json" || [ ! -e "$target/node_modules/@litertjs/core/package.json" ]; then
    rm -rf "$target" && mkdir -p "$target"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$target/"
    { command -v npm > /dev/null && npm ci --silent --prefix "$target" > /dev/null 2>&1; } ||
        echo "LiteRT.js could not be installed (it needs npm): the site will have no page that names genres in the browser."
fi
exit 0
