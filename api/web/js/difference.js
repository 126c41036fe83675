// SPDX-License-Identifier: Apache-2.0
/** What is different between two bodies, line by line (pure). */

/** @typedef {{what: "same" | "added" | "removed", text: string}} Line */

const SAME_AROUND = 2; // lines that show where a difference is
const LINES_MAX = 2000; // the table below has their square

/**
 * As YAML would be written, nearly: one value a line.
 * @param {unknown} value
 * @param {string} indent
 * @returns {string[]}
 */
export function written(value, indent = "") {
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      if (item === null || typeof item !== "object") return [`${indent}- ${JSON.stringify(item)}`];
      const [first = "", ...rest] = written(item, `${indent}  `);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  if (value !== null && typeof value === "object") {
    return Object.entries(value).flatMap(([name, inner]) =>
      inner !== null && typeof inner === "object" && Object.keys(inner).length
        ? [`${indent}${name}:`, ...written(inner, `${indent}  `)]
        : [`${indent}${name}: ${typeof inner === "string" ? inner : JSON.stringify(inner)}`],
    );
  }
  return value === null || value === undefined ? [] : [`${indent}${String(value)}`];
}

/**
 * @param {unknown} before
 * @param {unknown} after
 * @returns {Line[]}
 */
export function linesOf(before, after) {
  return shortened(compared(written(before).slice(0, LINES_MAX), written(after).slice(0, LINES_MAX)));
}

/**
 * By the longest common subsequence.
 * @param {string[]} old
 * @param {string[]} next
 * @returns {Line[]}
 */
function compared(old, next) {
  const longest = Array.from({ length: old.length + 1 }, () => new Uint16Array(next.length + 1));
  const at = (/** @type {number} */ row, /** @type {number} */ column) => longest[row]?.[column] ?? 0;
  for (let row = old.length - 1; row >= 0; row -= 1)
    for (let column = next.length - 1; column >= 0; column -= 1)
      /** @type {Uint16Array} */ (longest[row])[column] =
        old[row] === next[column] ? at(row + 1, column + 1) + 1 : Math.max(at(row + 1, column), at(row, column + 1));
  /** @type {Line[]} */
  const lines = [];
  let [row, column] = [0, 0];
  while (row < old.length || column < next.length) {
    const [left, right] = [old[row], next[column]];
    if (left !== undefined && left === right) {
      lines.push({ what: "same", text: left });
      [row, column] = [row + 1, column + 1];
    } else if (left !== undefined && (right === undefined || at(row + 1, column) >= at(row, column + 1))) {
      lines.push({ what: "removed", text: left });
      row += 1;
    } else {
      lines.push({ what: "added", text: String(right) });
      column += 1;
    }
  }
  return lines;
}

/**
 * Without what is the same and far from a difference.
 * @param {Line[]} lines
 * @returns {Line[]}
 */
function shortened(lines) {
  const near = lines.map((_, index) =>
    lines.slice(Math.max(0, index - SAME_AROUND), index + SAME_AROUND + 1).some(({ what }) => what !== "same"));
  /** @type {Line[]} */
  const kept = [];
  lines.forEach((line, index) => {
    if (near[index]) kept.push(line);
    else if (index === 0 || near[index - 1]) kept.push({ what: "same", text: "…" });
  });
  return kept;
}
