// The timeline: requests in lanes above, ticks below, and inside a tick its stages and instructions.
// Only what can be seen is drawn; ticks narrower than a few pixels become shares of their time.

const AXIS = 20;
const STAGE = 16;
const INSIDE = 64;
const GAP = 3;
const NARROWEST = 3; // pixels a tick needs to be drawn by itself
const CLOSEST = 2e-6; // seconds that the window shows at least

// The moments that the window shows; timelines that are compared share it.
class Window {
  constructor(end) {
    this.whole = end;
    this.start = 0;
    this.end = end;
    this.watchers = [];
  }

  show(start, end) {
    const span = Math.min(Math.max(end - start, CLOSEST), this.whole);
    this.start = Math.min(Math.max(start, 0), this.whole - span);
    this.end = this.start + span;
    this.watchers.forEach((draw) => draw());
  }

  zoom(factor, around = (this.start + this.end) / 2) {
    this.show(around - (around - this.start) * factor, around + (this.end - around) * factor);
  }

  pan(share) {
    const by = (this.end - this.start) * share;
    const start = Math.min(Math.max(this.start + by, 0), this.whole - (this.end - this.start));
    this.show(start, start + this.end - this.start);
  }

  reset() {
    this.show(0, this.whole);
  }
}

// Requests in as few lanes as possible, none over another.
function lanes(requests) {
  const free = [];
  return [...requests]
    .map((request, index) => ({ request, index, start: request.arrived }))
    .sort((a, b) => a.start - b.start)
    .map((each) => {
      const open = free.findIndex((until) => until <= each.start);
      const lane = open < 0 ? free.length : open;
      free[lane] = each.request.ended;
      return { ...each, lane };
    });
}

function phases(request) {
  const started = request.admitted ?? request.ended;
  const first = Math.max(request.first_token ?? request.ended, started);
  return [
    ["queue", request.arrived, started],
    ["prompt", started, first],
    ["generation", first, request.ended],
  ].filter(([, start, end]) => end > start);
}

// The index of the last of the sorted values that is not above `value`; 0 if there is none.
function lastBefore(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}

// A round step of the axis that leaves room for its labels.
function niceStep(span, steps) {
  const rough = span / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999) ?? 10 * power;
}

// The stages of a tick in the order of time, each with where it begins.
function stagesOf(tick) {
  let at = tick.start;
  return [["fetch", tick.fetch], ["decode", tick.decode], ["execute", tick.execute], ["write back", tick.write_back]].map(
    ([name, length]) => {
      const stage = { name, start: at, length };
      at += length;
      return stage;
    });
}

// What is inside the stages of a tick: phases of the core and instructions.
function insideOf(run, index) {
  const tick = run.ticks[index];
  const [, , execute, write] = stagesOf(tick);
  const pieces = [];
  let at = execute.start;
  const add = (name, length, color, instruction = null) => {
    if (length > 0) pieces.push({ name, start: at, length, color, instruction });
    at += length;
  };
  add("prepare", tick.prepare, "var(--inner)");
  add("turn", tick.turn, "var(--inner)");
  tick.ns.forEach((ns, each) => {
    const instruction = run.instructions[each];
    add(run.places[each], ns / 1e9, opcodeColor(instruction.opcode), instruction);
  });
  add("finish", tick.finish, "var(--inner)");
  add("call", execute.start + execute.length - at, "var(--stage-execute)");
  at = write.start;
  add("choose", tick.choose, "var(--inner)");
  add("text", tick.text, "var(--stage-fetch)");
  return pieces;
}

class Timeline {
  constructor(run, view) {
    Object.assign(this, { run, view, selected: null, hidden: new Map() });
    this.lanes = lanes(run.requests);
    const rows = Math.max(0, ...this.lanes.map((each) => each.lane + 1));
    this.lane = rows ? Math.min(Math.max(160 / rows, 3), 15) : 0;
    this.top = AXIS + rows * this.lane + (rows ? GAP * 2 : 0);
    this.height = this.top + 2 * (STAGE + GAP) + INSIDE;
    const say = `Timeline of ${numbers(run.ticks.length, "tick")} and ${numbers(run.requests.length, "request")}`;
    this.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": `${say}. Plus and minus zoom, arrows move, comma and full stop go from tick to tick, 0 shows all.` });
    this.detail = el("p", { class: "detail", "aria-live": "polite" });
    this.element = el("div", {}, this.canvas, this.detail);
    view.watchers.push(() => this.#later());
    steer(this);
    redrawn(this.element, () => this.draw());
    this.select(null);
  }

  // One drawing a frame, however many events ask for it.
  #later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  get width() {
    return this.element.clientWidth;
  }

  x(time) {
    return ((time - this.view.start) / (this.view.end - this.view.start)) * this.width;
  }

  time(x) {
    return this.view.start + (x / this.width) * (this.view.end - this.view.start);
  }

  inside(index) {
    if (!this.hidden.has(index)) {
      if (this.hidden.size > 512) this.hidden.clear();
      this.hidden.set(index, insideOf(this.run, index));
    }
    return this.hidden.get(index);
  }

  draw() {
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.canvas.style.height = `${this.height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    context.textBaseline = "middle";
    drawAxis(this, context);
    drawLanes(this, context);
    drawTicks(this, context);
  }

  select(index) {
    this.selected = index;
    this.detail.textContent = index === null ? "Choose a tick for its figures." : tickDetail(this.run, index);
    this.#later();
  }

  step(by) {
    if (!this.run.ticks.length) return;
    const from = this.selected ?? lastBefore(this.run.starts, this.view.start) - by;
    const index = Math.min(Math.max(from + by, 0), this.run.ticks.length - 1);
    const { start } = this.run.ticks[index];
    const span = this.view.end - this.view.start;
    if (start < this.view.start || start + this.run.lengths[index] > this.view.end) this.view.show(start - span * 0.1, start + span * 0.9);
    this.select(index);
  }

  // The tick at a place, or null.
  tickAt(x) {
    if (!this.run.ticks.length) return null;
    const time = this.time(x);
    const index = lastBefore(this.run.starts, time);
    const { start } = this.run.ticks[index];
    const slack = (2 / this.width) * (this.view.end - this.view.start);
    return time >= start - slack && time <= start + this.run.lengths[index] + slack ? index : null;
  }

  // What is at a place, in words; an empty text for nothing.
  tell(x, y) {
    const time = this.time(x);
    if (y < this.top) return this.#tellRequest(time, Math.floor((y - AXIS) / this.lane));
    const index = this.tickAt(x);
    if (index === null) return "";
    const within = (each) => time >= each.start && time < each.start + each.length;
    const lines = [`tick ${index} · ${seconds(this.run.lengths[index])}`];
    const stage = stagesOf(this.run.ticks[index]).find(within);
    if (stage) lines.push(`${stage.name} · ${seconds(stage.length)}`);
    const piece = y > this.top + 2 * (STAGE + GAP) ? this.inside(index).find(within) : null;
    if (piece) lines.push(`${piece.name} · ${seconds(piece.length)}`, ...(piece.instruction ? [`#${piece.instruction.index} ${piece.instruction.text}`] : []));
    return lines.join("\n");
  }

  #tellRequest(time, lane) {
    const found = this.lanes.find((each) => each.lane === lane && time >= each.start && time <= each.request.ended);
    return found ? requestDetail(found.request, found.index) : "";
  }
}

function requestDetail(request, index) {
  const parts = phases(request).map(([name, start, end]) => `${name} ${seconds(end - start)}`);
  return [`request ${index} · ${numbers(request.prompt, "prompt token")}, ${numbers(request.tokens, "token")} · ${request.finish}`, ...parts].join("\n");
}

function tickDetail(run, index) {
  const tick = run.ticks[index];
  const stages = stagesOf(tick).map((stage) => `${stage.name} ${seconds(stage.length)}`);
  return [
    `Tick ${index}: ${seconds(run.lengths[index])} (${stages.join(", ")})`,
    `${numbers(tick.rows, "row")}, ${tick.prompt_tokens} of prompts and ${numbers(tick.drafts, "guess", "guesses")}; ${numbers(tick.tokens, "token")}`,
    `${tick.running} running, ${tick.waiting} waiting`,
    `KV pages: ${tick.used_pages} used, ${tick.cached_pages} cached`,
    tick.memory ? `${bytes(tick.memory)} of memory` : null,
  ].filter(Boolean).join(" · ");
}
