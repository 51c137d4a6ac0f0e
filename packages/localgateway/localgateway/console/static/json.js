// JSON, laid out and coloured from its own text: no number loses a digit, no key its place.

import { element } from "./dom.js";

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;
// Hostile input is bounded: indentation by depth, elements by count.
const MAX_INDENT = 24;
const MAX_TOKENS = 20_000;

/** Whether a text is a JSON object or array. */
export function isJson(text) {
  if (!/^\s*[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** A text as nodes: JSON over several lines and in colours, anything else unchanged. */
export function pretty(text) {
  if (!isJson(text)) return [text];
  const nodes = [];
  const tokens = text.matchAll(TOKEN);
  let depth = 0;
  let count = 0;
  let before = "";
  const line = () => `\n${"  ".repeat(Math.min(depth, MAX_INDENT))}`;
  for (const { 0: token, index } of tokens) {
    if (++count > MAX_TOKENS) return [...nodes, text.slice(index)];
    const isClosing = token === "}" || token === "]";
    if (isClosing) depth -= 1;
    const isEmpty = isClosing && (before === "{" || before === "[");
    if ((isClosing && !isEmpty) || (!isClosing && "{[,".includes(before) && before)) nodes.push(line());
    if (token === ":") {
      nodes.at(-1).className = "key";
      nodes.push(": ");
    } else nodes.push(/^[{}[\],]/.test(token) ? token : element("span", { className: kind(token) }, token));
    if (token === "{" || token === "[") depth += 1;
    before = token;
  }
  return nodes;
}

function kind(token) {
  if (token[0] === '"') return "string";
  return /[tfn]/.test(token[0]) ? "literal" : "number";
}

/** DynamoDB's typed JSON as plain JSON text; numbers stay as they are written, binary data as Base64. */
export function plain(typed) {
  const [[type, value]] = Object.entries(typed);
  switch (type) {
    case "N":
      return value;
    case "M":
      return plainItem(value);
    case "L":
      return `[${value.map(plain).join(",")}]`;
    case "NS":
      return `[${value.join(",")}]`;
    case "SS":
    case "BS":
      return JSON.stringify(value);
    case "NULL":
      return "null";
    default:
      return JSON.stringify(value);
  }
}

export const plainItem = (item) =>
  `{${Object.entries(item)
    .map(([name, value]) => `${JSON.stringify(name)}:${plain(value)}`)
    .join(",")}}`;
