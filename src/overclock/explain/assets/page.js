"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MEANINGS = {
  attention: "Where the model looked when it said this: the mean of the chosen heads.",
  rollout: "Attention followed through all layers back to the text.",
  occlusion: `How much ${{
    "log-probability": "the log-probability of this", score: "the score", cosine: "the cosine to the whole text's vector",
  }[data.occlusion && data.occlusion.measure]} falls without each token; blue: it rises.`,
};
const shown = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^\s+$/, "␣") || "▯";
const number = (value) => (Math.abs(value) < 0.001 && value !== 0 ? value.toExponential(1) : value.toFixed(3));

// One row of numbers for each target, one number for each token.
const measures = {};
if (data.attention) Object.assign(measures, { attention: data.attention.targets, rollout: data.attention.rollout });
if (data.occlusion) measures.occlusion = data.occlusion.falls;
let measure = measures.occlusion ? "occlusion" : Object.keys(measures)[0];
let pinned = data.targets.length === 1 ? 0 : null; // the target whose numbers are shown; null: the mean
let pointed = null;

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function tint(share) {
  if (!(Math.abs(share) >= 0.02)) return "transparent";
  const strength = `calc(var(--strength) * ${Math.min(1, Math.abs(share)).toFixed(3)})`;
  return `rgb(var(${share > 0 ? "--warm" : "--cold"}) / ${strength})`;
}

// -- the text --------------------------------------------------------------------------------

const spans = data.tokens.map((token, place) => {
  const inAnswer = place >= data.prompt_tokens;
  const text = token.text === "" ? "▯" : token.text.replace(/\n$/, "⏎\n");
  const span = element("span", text, $(inAnswer ? "answer" : "prompt"));
  if (token.special) span.className = "special";
  span.addEventListener("pointerenter", () => tell(place));
  if (inAnswer) asTarget(span, place - data.prompt_tokens);
  return span;
});

function asTarget(span, target) {
  span.tabIndex = 0;
  span.setAttribute("role", "button");
  const point = (value) => () => { pointed = value; paint(); };
  span.addEventListener("pointerenter", point(target));
  span.addEventListener("pointerleave", point(null));
  span.addEventListener("focus", point(target));
  span.addEventListener("blur", point(null));
  const keep = () => { pinned = pinned === target ? null : target; pointed = null; paint(); };
  span.addEventListener("click", keep);
  span.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); keep(); }
  });
}

const current = () => (pointed === null ? pinned : pointed);

function row() {
  const rows = measures[measure];
  if (current() !== null) return rows[current()];
  return rows[0].map((_, place) => {
    const values = rows.map((each) => each[place]);
    return values.includes(null) ? null : values.reduce((a, b) => a + b) / rows.length;
  });
}

// Heads with nothing to look at rest on special tokens: these do not set the scale.
function scaleOf(values) {
  const of = (chosen) => Math.max(0, ...chosen.filter((v) => v !== null).map(Math.abs));
  return of(values.filter((_, place) => !data.tokens[place].special && place > 0)) || of(values) || 1;
}

function paint() {
  if (!measure) return;
  const values = row();
  const scale = scaleOf(values);
  spans.forEach((span, place) => {
    const value = values[place];
    span.style.background = value === null ? "transparent" : tint(value / scale);
    span.title = value === null ? "" : number(value);
    const target = place - data.prompt_tokens;
    span.classList.toggle("chosen", target >= 0 && target === current());
  });
  for (const button of $("measures").children) button.setAttribute("aria-pressed", String(button.dataset.name === measure));
  $("meaning").textContent = MEANINGS[measure];
  // Below the text, so that a longer line moves nothing that is pointed at.
  $("readout").textContent = current() === null ? "The mean over the answer." : summary(current(), values);
}

function summary(target, values) {
  const said = data.targets[target];
  const parts = [`“${shown(said.text)}”`];
  if (said.value !== null) parts.push((data.kind === "decoder" ? "probability " : "") + number(said.value));
  const settled = data.lens && data.lens.settled[target];
  if (data.lens && settled !== null) parts.push(`settled in layer ${settled}`);
  const places = values.map((_, place) => place).filter((p) => values[p] > 0 && !data.tokens[p].special);
  places.sort((a, b) => values[b] - values[a]);
  const best = places.slice(0, 5).map((p) => `“${shown(data.tokens[p].text).trim() || "␣"}” ${number(values[p])}`);
  if (best.length) parts.push(`most: ${best.join("  ")}`);
  return parts.join(" · ");
}

function tell(place) {
  if (place >= data.prompt_tokens || !measure) return;
  const value = row()[place];
  $("readout").textContent = `token ${place} “${shown(data.tokens[place].text)}”: ` + (value === null ? "not left out" : number(value));
}

function fillText() {
  const said = data.targets.map((each) => each.text).join("");
  $("said").textContent = said;
  document.title = `${shown(said).slice(0, 60)} · what the model did`;
  const facts = [data.model, `${data.tokens.length} tokens`];
  if (data.kind === "decoder") facts.push(`${data.targets.length} of them the answer`);
  else if (data.targets[0].value !== null) facts.push(`${data.kind.replace("_", " ")}: ${number(data.targets[0].value)}`);
  $("facts").textContent = facts.join(" · ");
  $("answer-part").hidden = data.kind !== "decoder";
  for (const name of Object.keys(measures)) {
    const button = element("button", name, $("measures"));
    button.type = "button";
    button.dataset.name = name;
    button.addEventListener("click", () => { measure = name; paint(); });
  }
  paint();
}

// -- the maps --------------------------------------------------------------------------------

const tokens = data.tokens.length;
const maps = data.maps;
const bytes = maps ? Uint8Array.from(atob(maps.data), (sign) => sign.charCodeAt(0)) : null;
const mapSize = maps && maps.causal ? (tokens * (tokens + 1)) / 2 : tokens * tokens;

function addMap(sum, layer, head) {
  let at = (layer * maps.heads + head) * mapSize;
  for (let y = 0; y < tokens; y++)
    for (let x = 0; x < (maps.causal ? y + 1 : tokens); x++) sum[y * tokens + x] += (bytes[at++] / 255) ** 2;
}

function chosenMap() {
  const [layer, head] = [$("layer").value, $("head").value];
  const layers = layer === "all" ? [...Array(maps.layers).keys()] : [Number(layer)];
  const heads = head === "all" ? [...Array(maps.heads).keys()] : [Number(head)];
  const sum = new Float64Array(tokens * tokens);
  for (const l of layers) for (const h of heads) addMap(sum, l, h);
  return sum.map((value) => value / (layers.length * heads.length));
}

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.ceil(width * ratio);
  canvas.height = Math.ceil(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let map = null;
let frame = null; // of the map: where its cells begin and how large they are

function drawMap() {
  const cell = Math.max(3, Math.min(16, Math.floor(640 / tokens)));
  const edge = cell >= 9 ? 92 : 4;
  const pen = prepare($("map"), edge + cell * tokens + 1, edge + cell * tokens + 1);
  frame = { edge, cell };
  if (edge > 4) drawLabels(pen, edge, cell);
  let largest = 0;
  for (let y = 0; y < tokens; y++) for (let x = 1; x < tokens; x++) largest = Math.max(largest, map[y * tokens + x]);
  const warm = css("--warm");
  for (let y = 0; y < tokens; y++)
    for (let x = 0; x < tokens; x++) {
      const share = Math.min(1, map[y * tokens + x] / (largest || 1));
      if (share < 0.01) continue;
      pen.fillStyle = `rgb(${warm} / ${share})`;
      pen.fillRect(edge + x * cell, edge + y * cell, cell > 5 ? cell - 1 : cell, cell > 5 ? cell - 1 : cell);
    }
  pen.strokeStyle = css("--line");
  pen.strokeRect(edge - 0.5, edge - 0.5, cell * tokens + 1, cell * tokens + 1);
}

function drawLabels(pen, edge, cell) {
  pen.fillStyle = css("--quiet");
  pen.font = `${Math.min(12, cell)}px ui-monospace, Menlo, Consolas, monospace`;
  pen.textBaseline = "middle";
  data.tokens.forEach((token, place) => {
    const label = shown(token.text).slice(0, 11);
    const middle = edge + (place + 0.5) * cell;
    pen.textAlign = "right";
    pen.fillText(label, edge - 6, middle);
    pen.save();
    pen.translate(middle, edge - 6);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "left";
    pen.fillText(label, 0, 0);
    pen.restore();
  });
}

function readMap(event) {
  const x = Math.floor((event.offsetX - frame.edge) / frame.cell);
  const y = Math.floor((event.offsetY - frame.edge) / frame.cell);
  const inside = x >= 0 && y >= 0 && x < tokens && y < tokens;
  $("map-readout").textContent = inside
    ? `${y} “${shown(data.tokens[y].text)}” looks at ${x} “${shown(data.tokens[x].text)}”: ${number(map[y * tokens + x])}`
    : "";
}

const HEAD_CELL = 15;
const headAt = (event) => [Math.floor((event.offsetY - 1) / HEAD_CELL), Math.floor((event.offsetX - 22) / HEAD_CELL)];
const isHead = (layer, head) => data.attention.entropy[layer] && data.attention.entropy[layer][head] !== undefined;

function drawHeads() {
  const entropy = data.attention.entropy;
  const pen = prepare($("heads"), 24 + HEAD_CELL * entropy[0].length, 3 + HEAD_CELL * entropy.length);
  const all = entropy.flat();
  const [low, high] = [Math.min(...all), Math.max(...all)];
  pen.font = "10px ui-monospace, Menlo, Consolas, monospace";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  entropy.forEach((heads, layer) => {
    pen.fillStyle = css("--quiet");
    pen.fillText(layer, 18, 1 + (layer + 0.5) * HEAD_CELL);
    heads.forEach((value, head) => {
      pen.fillStyle = `rgb(${css("--warm")} / ${0.06 + 0.9 * (high > low ? (high - value) / (high - low) : 0)})`;
      pen.fillRect(22 + head * HEAD_CELL, 1 + layer * HEAD_CELL, HEAD_CELL - 1, HEAD_CELL - 1);
      const chosen = (v, own) => v === "all" || Number(v) === own;
      if ($("layer").value === "all" && $("head").value === "all") return;
      if (!chosen($("layer").value, layer) || !chosen($("head").value, head)) return;
      pen.strokeStyle = `rgb(${css("--cold")})`;
      pen.lineWidth = 2;
      pen.strokeRect(22.5 + head * HEAD_CELL, 1.5 + layer * HEAD_CELL, HEAD_CELL - 2, HEAD_CELL - 2);
    });
  });
}

function fillMaps() {
  $("map-section").hidden = !maps;
  if (!maps) return;
  for (const [id, count] of [["layer", maps.layers], ["head", maps.heads]]) {
    const values = count > 1 ? ["all", ...Array(count).keys()] : ["all"];
    for (const value of values) element("option", value === "all" ? "mean of all" : value, $(id)).value = value;
    $(id).addEventListener("change", redraw);
  }
  const choose = (layer, head) => {
    if (layer !== null) $("layer").value = maps.layers > 1 ? layer : "all";
    if (head !== null) $("head").value = maps.heads > 1 ? head : "all";
  };
  choose(data.attention.layer, data.attention.head);
  const onlyMeans = maps.heads < data.attention.entropy[0].length;
  $("map-note").textContent = "A row is a token that looks, a column one that is looked at."
    + (onlyMeans ? " The text is so long that only the mean of each layer's heads is here." : "");
  $("map").addEventListener("pointermove", readMap);
  $("heads").addEventListener("pointermove", (event) => {
    const [layer, head] = headAt(event);
    $("heads-readout").textContent = isHead(layer, head)
      ? `layer ${layer}, head ${head}: entropy ${number(data.attention.entropy[layer][head])} nats` : "";
  });
  $("heads").addEventListener("click", (event) => {
    const [layer, head] = headAt(event);
    if (isHead(layer, head)) { choose(layer, head); redraw(); }
  });
  redraw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

function redraw() {
  map = chosenMap();
  drawMap();
  drawHeads();
}

// -- the lens --------------------------------------------------------------------------------

function fillLens() {
  $("lens-section").hidden = !data.lens;
  if (!data.lens) return;
  const top = element("tr", undefined, element("thead", undefined, $("lens")));
  element("th", "layer", top);
  for (const target of data.targets) element("th", shown(target.text), top).scope = "col";
  const body = element("tbody", undefined, $("lens"));
  data.lens.top.forEach((places, layer) => {
    const line = element("tr", undefined, body);
    element("th", layer, line).scope = "row";
    places.forEach((best, target) => {
      const cell = element("td", shown(best[0].text), line);
      cell.style.background = tint(best[0].probability);
      cell.classList.toggle("came", data.lens.rank[layer][target] === 0);
      const say = () => { $("lens-readout").textContent = lensLine(layer, target); };
      cell.addEventListener("pointerenter", say);
      cell.addEventListener("click", say);
    });
  });
}

function lensLine(layer, target) {
  const best = data.lens.top[layer][target].map((each) => `“${shown(each.text)}” ${number(each.probability)}`);
  return `layer ${layer}: ${best.join("  ")} · “${shown(data.targets[target].text)}” has rank ${data.lens.rank[layer][target] + 1}`
    + ` and ${number(data.lens.probability[layer][target])} · divergence from the end ${number(data.lens.divergence[layer][target])} nats`;
}

$("text-section").hidden = !measure && !data.tokens.length;
fillText();
fillMaps();
fillLens();
