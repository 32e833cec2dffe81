// Tables whose columns sort, and the three that use them: instructions, requests, the run itself.

// columns: {key, title, value(row), show(value, row), text, first}; `first` is the order of the first click.
class Sorted {
  constructor(columns, rows, order) {
    Object.assign(this, { columns, rows, order, words: "" });
    this.body = el("tbody");
    this.heads = columns.map((column) => this.#head(column));
    this.element = el("table", {}, el("thead", {}, el("tr", {}, this.heads)), this.body);
    this.draw();
  }

  #head(column) {
    const sort = () => {
      const same = this.order.key === column.key;
      this.order = { key: column.key, up: same ? !this.order.up : Boolean(column.text) };
      this.draw();
    };
    return el("th", { scope: "col", class: column.text ? "text" : "" }, el("button", { type: "button", click: sort }, column.title));
  }

  filter(words) {
    this.words = words.toLowerCase();
    this.draw();
  }

  get shown() {
    const parts = this.words.split(/\s+/).filter(Boolean);
    return this.rows.filter((row) => parts.every((part) => row.words.includes(part)));
  }

  draw() {
    const { key, up } = this.order;
    const column = this.columns.find((each) => each.key === key);
    this.columns.forEach((each, index) => {
      if (each.key === key) this.heads[index].setAttribute("aria-sort", up ? "ascending" : "descending");
      else this.heads[index].removeAttribute("aria-sort");
    });
    const rows = this.shown.sort((a, b) => compared(column.value(a), column.value(b)) * (up ? 1 : -1));
    this.body.replaceChildren(...rows.map((row) => el("tr", {}, this.columns.map((each) => this.#cell(each, row)))));
  }

  #cell(column, row) {
    const value = column.value(row);
    const text = value === null || value === undefined ? DASH : String(value);
    const inside = column.show ? figure(`${row.name}.${column.key}`, value, column.show) : text;
    const mark_ = column.mark ? mark(column.mark(row)) : null;
    return el("td", { class: [column.text ? "text" : "", column.class ?? ""].join(" ").trim(), title: column.class === "operands" ? text : undefined }, mark_, inside);
  }
}

// What is not known comes last when the largest come first.
function compared(a, b) {
  if (typeof a === "string" || typeof b === "string") return plain(a).localeCompare(plain(b));
  return (a ?? -Infinity) - (b ?? -Infinity) || 0;
}

function instructionColumns(run) {
  const of = (key) => (row) => row.each[key];
  return [
    { key: "index", title: "#", value: of("index"), show: whole },
    { key: "opcode", title: "opcode", value: of("opcode"), text: true, mark: (row) => opcodeColor(row.each.opcode) },
    { key: "layer", title: "layer", value: of("layer"), show: whole },
    { key: "text", title: "operands", value: of("text"), text: true, class: "operands" },
    { key: "runs", title: "runs", value: of("runs"), show: whole },
    { key: "seconds", title: "time", value: of("seconds"), show: seconds },
    { key: "of_all", title: "of all", value: (row) => ratio(row.each.seconds, run.execution), show: percent },
    { key: "each_run", title: "a run", value: (row) => ratio(row.each.seconds, row.each.runs), show: seconds },
    { key: "busy", title: "busy", value: (row) => ratio(row.each.busy_s, row.each.seconds * run.document.machine.threads), show: percent },
    { key: "operation_rate", title: "op/s", value: (row) => ratio(row.each.operations, row.each.seconds), show: count },
    { key: "byte_rate", title: "B/s", value: (row) => ratio(moved(row.each), row.each.seconds), show: count },
    { key: "share", title: "of limit", value: of("share"), show: percent },
    { key: "bound", title: "bound", value: of("bound"), text: true },
    { key: "reason", title: "because", value: of("reason"), text: true },
  ];
}

function drawInstructions(run) {
  const rows = run.instructions.map((each, index) => ({
    each,
    name: `instruction.${each.index}`,
    words: [each.index, run.places[index], each.text, `layer ${each.layer}`, each.bound, each.reason].join(" ").toLowerCase(),
  }));
  const table = new Sorted(instructionColumns(run), rows, { key: "seconds", up: false });
  const total = el("span", {});
  const say = () => {
    const shown = table.shown;
    total.textContent = `${numbers(shown.length, "instruction")}, ${seconds(sum(shown.map((row) => row.each.seconds)))}`;
  };
  const input = el("input", { type: "search", placeholder: "matmul layer 3 …", "aria-label": "Only instructions with these words", input: () => { table.filter(input.value); say(); } });
  say();
  $("instructions").replaceChildren(
    heading("Instructions", "Sums over all ticks.", total, input),
    scroller("Instructions", table.element));
}

function requestColumns() {
  const of = (key) => (row) => row.each[key];
  const between = (from, to) => (row) => (known(row.each[from]) && known(row.each[to]) ? row.each[to] - row.each[from] : null);
  return [
    { key: "index", title: "#", value: (row) => row.index, show: whole },
    { key: "arrived", title: "arrived", value: of("arrived"), show: seconds },
    { key: "queue", title: "queue", value: between("arrived", "admitted"), show: seconds },
    { key: "first", title: "to first token", value: between("arrived", "first_token"), show: seconds },
    { key: "whole", title: "whole", value: between("arrived", "ended"), show: seconds },
    { key: "prompt", title: "prompt", value: of("prompt"), show: whole },
    { key: "cached", title: "cached", value: of("cached"), show: whole },
    { key: "tokens", title: "tokens", value: of("tokens"), show: whole },
    { key: "rate", title: "tokens/s", value: (row) => ratio(row.each.tokens - 1 || null, between("first_token", "last_token")(row)), show: (value) => (known(value) ? digits(value) : DASH) },
    { key: "drafted", title: "guessed", value: of("drafted"), show: whole },
    { key: "accepted", title: "kept", value: of("accepted"), show: whole },
    { key: "finish", title: "ended by", value: of("finish"), text: true },
  ];
}

function drawRequests(run) {
  const rows = run.requests.map((each, index) => ({ each, index, name: `request.${index}`, words: "" }));
  const table = new Sorted(requestColumns(), rows, { key: "index", up: true });
  $("requests").hidden = !rows.length;
  $("requests").replaceChildren(
    heading("Requests", `${numbers(rows.length, "request")}; times count from the arrival.`),
    scroller("Requests", table.element));
}

function pairs(title, rows) {
  return el("div", {}, el("h3", {}, title), el("table", {}, el("tbody", {}, rows.map(([name, value]) => el("tr", {}, el("td", { class: "text" }, name), el("td", {}, value))))));
}

function aboutLoad(load) {
  if (!load) return pairs("Loading", [["not part of this trace", ""]]);
  const parts = load.parts.map((part, index) => [part.name, figure(`load.${index}.seconds`, part.seconds, seconds)]);
  return pairs("Loading", [["all", figure("load.seconds", load.seconds, seconds)], ...parts,
    ["read from disk", figure("load.read_bytes", load.read_bytes, bytes)], ["major page faults", figure("load.major_faults", load.major_faults, whole)]]);
}

function aboutLimits(limits) {
  if (!limits) return pairs("Limits", [["not measured", ""]]);
  return pairs("Limits", [
    ["f32", figure("limits.f32", limits.f32_gflops * 1e9, operationRate)],
    ["int8", figure("limits.int8", limits.int8_gops * 1e9, operationRate)],
    ["read", figure("limits.read", limits.read_gbs * 1e9, byteRate)],
    ...limits.levels.map((level) => [`${level.name}, ${bytes(level.bytes)}`, figure(`limits.${level.name}`, level.gbs * 1e9, byteRate)]),
    ["measured", plain(limits.measured)],
  ]);
}

function drawAbout(run) {
  const { model, machine, load, limits, created, overclock } = run.document;
  $("about").replaceChildren(
    heading("The run", ""),
    el("div", { class: "columns" },
      pairs("Model", [["name", model.name], ["layers", whole(model.layers)], ["vocabulary", whole(model.vocabulary)], ["context", whole(model.context)], ["weights", bytes(model.weight_bytes)], ["exact", model.exact ? "yes" : "no"], ["fingerprint", plain(model.fingerprint)]]),
      pairs("Machine", [["name", plain(machine.name)], ["instruction set", plain(machine.tier)], ["processor", plain(machine.cpu)], ["cores", whole(machine.cores)], ["threads", whole(machine.threads)], ["KV", plain(machine.kv)], ["overclock", plain(overclock)], ["traced", plain(created)]]),
      aboutLimits(limits),
      aboutLoad(load)));
}
