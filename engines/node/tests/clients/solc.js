#!/usr/bin/env node
// Speaks what forge expects of a compiler (`--version`, `--standard-json`) with solc's JavaScript build from npm, so that no
// native compiler has to be downloaded: `forge … --use this-file`. NODE_PATH says where `solc` is installed.
const solc = require("solc");

const asked = process.argv.slice(2);
if (asked.includes("--version")) {
    console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version().replace(".Emscripten.clang", ".Linux.g++")}`);
} else if (asked.includes("--standard-json")) {
    // forge hands over all sources in the input, so nothing is read from elsewhere.
    process.stdout.write(solc.compile(require("fs").readFileSync(0, "utf8")));
} else {
    console.error(`this compiler speaks --version and --standard-json only, not ${asked.join(" ")}`);
    process.exit(2);
}
