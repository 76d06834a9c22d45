// onnxruntime-web in Node: node web.cjs FILE IN.json OUT.json, from a folder that has the package.
// IN is a list of {tokens, lengths, shape}; OUT is a list of the probabilities of each, flat.
"use strict";
const fs = require("fs");
const { createRequire } = require("module");

async function main(file, given, output) {
  const ort = createRequire(process.cwd() + "/")("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(fs.readFileSync(file), { executionProviders: ["wasm"] });
  const integers = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  const found = [];
  for (const batch of JSON.parse(fs.readFileSync(given, "utf8"))) {
    const answers = await session.run({
      tokens: integers(batch.tokens, batch.shape),
      lengths: integers(batch.lengths, [batch.shape[0]]),
    });
    found.push(Array.from(answers.probabilities.data));
  }
  fs.writeFileSync(output, JSON.stringify(found));
}

main(...process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    console.error(String(error && error.message ? error.message : error));
    process.exit(1);
  },
);
