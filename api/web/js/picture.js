// SPDX-License-Identifier: Apache-2.0
/** Where the parts of the overview's picture are (pure): boxes, and edges between them. */

/** @typedef {import("./ui/parts.js").Tone} Tone */
/**
 * @typedef {{name: string, detail: string[], tone: Tone, link: string}} Part
 * @typedef {{name: string, link: string, nodes: {name: string, tone: Tone, detail: string, rate: number}[], hidden: number, rate: number}} Pool
 * @typedef {object} Model
 * @property {string[]} clients lines of text
 * @property {number} rate new connections a second
 * @property {Part[]} dataFlow
 * @property {Part[]} control
 * @property {Pool[]} pools
 * @property {{from: string, to: string, rate: number, text: string}[]} buses between CSs and DFSs
 */
/** @typedef {{x: number, y: number, width: number, height: number}} Place */
/** @typedef {Place & {title: string, detail: string[], tone: Tone, link: string}} Box */
/** @typedef {Place & {name: string, tone: Tone, detail: string}} Row */
/** @typedef {{path: string, rate: number, text: string, at: [number, number], control: boolean}} Edge */
/** @typedef {{width: number, height: number, boxes: Box[], rows: Row[], edges: Edge[]}} Picture */

const ROW = 22;
const LINE = 18;
const GAP = 18;
const ROOM = 670; // beside the pools

/** @param {Place} place @returns {[number, number]} */
const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];

/** @param {readonly string[]} detail */
const heightOf = (detail) => 34 + LINE * detail.length;

/**
 * Parts below each other.
 * @param {readonly Part[]} parts
 * @param {{x: number, y: number, width: number}} start
 * @returns {Box[]}
 */
function stacked(parts, start) {
  let { y } = start;
  return parts.map(({ name, detail, tone, link }) => {
    const box = { ...start, y, height: heightOf(detail), title: name, detail, tone, link };
    y += box.height + GAP;
    return box;
  });
}

/**
 * Pools below each other, each with a row per node.
 * @param {readonly Pool[]} pools
 * @param {{x: number, y: number, width: number}} start
 * @returns {{boxes: Box[], rows: Row[]}}
 */
function pooled(pools, start) {
  let { y } = start;
  /** @type {Row[]} */
  const rows = [];
  const boxes = pools.map((pool) => {
    const more = pool.hidden ? 1 : 0;
    const box = { ...start, y, height: 36 + ROW * (pool.nodes.length + more), title: pool.name, detail: [], tone: /** @type {Tone} */ (""), link: pool.link };
    pool.nodes.forEach(({ name, tone, detail }, index) =>
      rows.push({ x: start.x, y: y + 30 + ROW * index, width: start.width, height: ROW, name, tone, detail }));
    if (more)
      rows.push({ x: start.x, y: y + 30 + ROW * pool.nodes.length, width: start.width, height: ROW, name: `and ${pool.hidden} more`, tone: "", detail: "" });
    y += box.height + GAP;
    return box;
  });
  return { boxes, rows };
}

/** @param {readonly Place[]} places */
const bottom = (places) => Math.max(0, ...places.map(({ y, height }) => y + height));

/**
 * Moved down so that all are in the middle of *height*.
 * @template {Place} P
 * @param {P[]} places
 * @param {number} top
 * @param {number} height
 * @param {readonly Place[]} [as] what decides how far
 * @returns {P[]}
 */
function centred(places, top, height, as = places) {
  const by = Math.max(0, (height - (bottom(as) - top)) / 2);
  return places.map((place) => ({ ...place, y: place.y + by }));
}

/**
 * @param {Model} model
 * @param {boolean} narrow one column, for small screens
 * @returns {Picture}
 */
export const layout = (model, narrow) => (narrow ? column(model) : wide(model));

/** @param {Model} model @returns {Picture} */
function wide(model) {
  const width = 1000;
  const step = Math.min(200, ROOM / Math.max(1, model.control.length));
  const size = Math.min(170, step - 10);
  const left = Math.min(420, ROOM + 8 - (step * model.control.length) / 2) - (step * model.control.length) / 2;
  const control = model.control.map((part, index) => ({
    x: Math.max(8, left) + step * index + (step - size) / 2, y: 8, width: size, height: heightOf(part.detail),
    title: part.name, detail: part.detail, tone: part.tone, link: part.link,
  }));
  const top = bottom(control) + 70;
  const dataFlow = stacked(model.dataFlow, { x: 325, y: top, width: 190 });
  const clients = stacked([{ name: "Clients", detail: model.clients, tone: "", link: "#/flows" }], { x: 8, y: top, width: 170 });
  const right = pooled(model.pools, { x: 690, y: 8, width: 300 });
  const height = Math.max(bottom(dataFlow), bottom(clients), bottom(right.boxes)) + 8;
  const room = height - top - 8;
  return joined(model, { width, height, control, dataFlow: centred(dataFlow, top, room), clients: centred(clients, top, room),
    pools: centred(right.boxes, 8, height - 16), rows: centred(right.rows, 8, height - 16, right.boxes) }, false);
}

/** @param {Model} model @returns {Picture} */
function column(model) {
  const width = 380;
  const clients = stacked([{ name: "Clients", detail: model.clients, tone: "", link: "#/flows" }], { x: 8, y: 8, width: 170 });
  const top = bottom(clients) + 60;
  const dataFlow = stacked(model.dataFlow, { x: 8, y: top, width: 170 });
  const control = stacked(model.control, { x: 232, y: 8, width: 140 });
  const below = Math.max(bottom(dataFlow), bottom(control)) + 60;
  const { boxes, rows } = pooled(model.pools, { x: 44, y: below - 30, width: 328 });
  const height = Math.max(bottom(boxes), below) + 8;
  return joined(model, { width, height, control, dataFlow, clients, pools: boxes, rows }, true);
}

/**
 * With the edges between the boxes.
 * @param {Model} model
 * @param {{width: number, height: number, control: Box[], dataFlow: Box[], clients: Box[], pools: Box[], rows: Row[]}} placed
 * @param {boolean} narrow
 * @returns {Picture}
 */
function joined(model, { width, height, control, dataFlow, clients, pools, rows }, narrow) {
  const share = 1 / Math.max(1, dataFlow.length);
  /** @type {Edge[]} */
  const edges = [];
  for (const dfs of dataFlow) {
    for (const from of clients) edges.push(between(from, dfs, narrow, model.rate * share, perSecond(model.rate * share)));
    pools.forEach((pool, index) => {
      const rate = (model.pools[index]?.rate ?? 0) * share;
      const text = dataFlow.length === 1 ? perSecond(rate) : "";
      edges.push(narrow ? trunk(dfs, pool, rate, text) : between(dfs, pool, false, rate, text));
    });
  }
  for (const bus of model.buses) {
    const [from, to] = [control.find(({ title }) => title === bus.from), dataFlow.find(({ title }) => title === bus.to)];
    if (from && to) edges.push({ ...between(from, to, !narrow, bus.rate, narrow ? "" : bus.text, 0.25), control: true });
  }
  return { width, height, boxes: [...clients, ...dataFlow, ...control, ...pools], rows, edges };
}

/**
 * Down along the left side, then to the right.
 * @param {Place} from
 * @param {Place} to
 * @param {number} rate
 * @param {string} text
 * @returns {Edge}
 */
function trunk(from, to, rate, text) {
  const [x, [, y]] = [from.x + 16, middle(to)];
  return { path: `M${x} ${from.y + from.height}V${y}H${to.x}`, rate, text, at: [x, y - 14], control: false };
}

/** @param {number} rate */
const perSecond = (rate) => (rate >= 0.05 ? `${rate >= 10 ? Math.round(rate) : rate.toFixed(1)}/s` : "");

/**
 * @param {Place} from
 * @param {Place} to
 * @param {boolean} down from the lower side to the upper one; else from the right to the left
 * @param {number} rate
 * @param {string} text
 * @param {number} [along] how far along the text is, 0 to 1
 * @returns {Edge}
 */
function between(from, to, down, rate, text, along = 0.5) {
  const [fromX, fromY] = middle(from);
  const [toX, toY] = middle(to);
  const [a, b] = down
    ? [[fromX, from.y + from.height], [toX, to.y]]
    : [[fromX < toX ? from.x + from.width : from.x, fromY], [fromX < toX ? to.x : to.x + to.width, toY]];
  const [ax = 0, ay = 0, bx = 0, by = 0] = [...a, ...b];
  const path = down
    ? `M${ax} ${ay}C${ax} ${(ay + by) / 2} ${bx} ${(ay + by) / 2} ${bx} ${by}`
    : `M${ax} ${ay}C${(ax + bx) / 2} ${ay} ${(ax + bx) / 2} ${by} ${bx} ${by}`;
  const [slow, fast] = [3 * along ** 2 - 2 * along ** 3, 1.5 * along - 1.5 * along ** 2 + along ** 3];
  const [shareX, shareY] = down ? [slow, fast] : [fast, slow]; // the curve's own equation
  return { path, rate, text, at: [ax + (bx - ax) * shareX, ay + (by - ay) * shareY], control: false };
}
