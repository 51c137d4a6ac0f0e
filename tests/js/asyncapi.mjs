// docs/asyncapi.json is what AsyncAPI's own parser takes for a valid AsyncAPI 3 document, without a warning.
import { readFile } from "node:fs/promises";
import { DiagnosticSeverity, Parser } from "@asyncapi/parser";

const path = new URL("../../docs/asyncapi.json", import.meta.url);
const { document, diagnostics } = await new Parser().parse(await readFile(path, "utf8"), { source: path.pathname });
const faults = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
for (const { severity, code, message, path: where } of faults) {
  console.error(`${DiagnosticSeverity[severity]} ${code} at ${where.join("/")}: ${message}`);
}
if (!document || faults.length) process.exit(1);
console.log(`asyncapi.json: AsyncAPI ${document.version()}, ${document.operations().length} operations, no fault`);
