// A trace, and what follows from it: sums by opcode, by layer and by place in a layer.

const sum = (values) => values.reduce((total, value) => total + value, 0);
const ratio = (value, of) => (known(value) && known(of) && of !== 0 ? value / of : null);

// Linear interpolation between the two nearest ranks; `sorted` goes upwards.
function percentile(sorted, share) {
  if (!sorted.length) return null;
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

const tickSeconds = (tick) => tick.fetch + tick.decode + tick.execute + tick.write_back;
const moved = (instruction) =>
  instruction.weight_bytes + instruction.activation_bytes + instruction.kv_bytes;

class Run {
  constructor(document, name) {
    this.document = document;
    this.name = name;
    this.ticks = document.ticks;
    this.instructions = document.instructions;
    this.requests = document.requests;
    this.starts = Float64Array.from(this.ticks, (tick) => tick.start);
    this.lengths = Float64Array.from(this.ticks, tickSeconds);
    this.execution = sum(this.instructions.map((each) => each.seconds));
    this.attainable = document.limits ? sum(this.instructions.map((each) => each.attainable_s ?? 0)) : null;
    this.end = this.#end();
    this.places = this.#places();
    this.opcodes = [...this.#bySeconds((each) => each.opcode).keys()];
    this.parts = this.#parts();
  }

  // Instructions by opcode, or by any other key; those that took longest come first.
  #bySeconds(key) {
    const groups = [...grouped(this.instructions, key)];
    const spent = new Map(groups.map(([name, each]) => [name, sum(each.map((one) => one.seconds))]));
    return new Map(groups.sort(([a], [b]) => spent.get(b) - spent.get(a)));
  }

  #end() {
    const ended = this.ticks.map((tick, index) => tick.start + this.lengths[index]);
    const asked = this.requests.map((request) => request.ended);
    return [this.document.wall_s, ...ended, ...asked].reduce((most, each) => Math.max(most, each), 1e-9);
  }

  // The name of an instruction's place: its opcode and weight, the same in every layer.
  #places() {
    const seen = new Map();
    return this.instructions.map((each) => {
      const weight = /([\w-]+)\.weight/.exec(each.text);
      const name = weight ? `${each.opcode} ${weight[1]}` : each.opcode;
      const key = JSON.stringify([each.layer, name]);
      seen.set(key, (seen.get(key) ?? 0) + 1);
      return seen.get(key) === 1 ? name : `${name} ${seen.get(key)}`;
    });
  }

  byPlace() {
    const place = new Map(this.instructions.map((each, index) => [each, this.places[index]]));
    return this.#bySeconds((each) => place.get(each));
  }

  // What a tick is made of, in the order of time: names, colours, and seconds of each tick.
  #parts() {
    const opcodes = this.opcodes.map((opcode) => [opcode, opcodeColor(opcode)]);
    const names = [["fetch"], ["decode"], ["prepare"], ["turn"], ...opcodes, ["finish"], ["call"], ["write back"]];
    const parts = names.map(([name, color]) => ({ name, color: color ?? colorOf(name), before: new Float64Array(this.ticks.length + 1) }));
    const column = this.instructions.map((each) => 4 + this.opcodes.indexOf(each.opcode));
    this.ticks.forEach((tick, index) => {
      const spent = this.#spent(tick, column, parts.length);
      parts.forEach((part, at) => (part.before[index + 1] = part.before[index] + spent[at]));
    });
    return parts;
  }

  #spent(tick, column, size) {
    const spent = new Float64Array(size);
    tick.ns.forEach((ns, index) => (spent[column[index]] += ns / 1e9));
    const opcodes = sum([...spent]);
    spent.set([tick.fetch, tick.decode, tick.prepare, tick.turn]);
    const call = tick.execute - opcodes - tick.prepare - tick.turn - tick.finish;
    spent.set([tick.finish, Math.max(call, 0), tick.write_back], size - 3);
    return spent;
  }

  get generation() {
    const own = this.ticks.filter((tick) => tick.tokens > 0 && tick.prompt_tokens === 0);
    return ratio(sum(own.map((tick) => tick.tokens)), sum(own.map(tickSeconds)));
  }

  tickTimes(wanted = () => true) {
    return this.ticks.filter(wanted).map(tickSeconds).sort((a, b) => a - b);
  }

  get peakMemory() {
    return this.ticks.reduce((most, tick) => Math.max(most, tick.memory), 0) || null;
  }

  // The figures of the headline and of a comparison: name, text, value, format, what it is.
  figures() {
    const { what, wall_s: wall, accounted_share: accounted } = this.document;
    const times = this.tickTimes();
    const reads = this.document.kind === "encoder";
    return [
      reads
        ? ["prompt_tokens_per_second", "Speed", ratio(what.prompt_tokens, wall), tokenRate, "read, over the wall time"]
        : ["tokens_per_second", "Speed", ratio(what.tokens, wall), tokenRate, "over the wall time"],
      ["generation_per_second", "Generation", this.generation, tokenRate, "in ticks without prompts"],
      ["wall_s", "Wall time", wall, seconds, `${count(what.prompt_tokens)} prompt, ${numbers(what.tokens, "token")}`],
      ["accounted_share", "Accounted for", accounted, percent, `${seconds(wall - this.document.accounted_s)} is not`],
      ["limit_share", "Of the limit", ratio(this.attainable, wall), percent, `${percent(ratio(this.attainable, this.execution))} inside instructions`],
      ["tick_p50", "A tick, median", percentile(times, 0.5), seconds, `p99 ${seconds(percentile(times, 0.99))}`],
      ["memory_peak", "Memory, at most", this.peakMemory, bytes, `${bytes(this.document.model.weight_bytes)} are weights`],
    ];
  }

  get title() {
    const { model, machine, kind, created } = this.document;
    const streams = kind === "streams" ? `${numbers(this.document.what.streams, "stream")}` : kind;
    return [model.name, `${machine.name} ${machine.tier ?? ""}`.trim(), numbers(machine.threads, "thread"), streams, created].join(" · ");
  }
}
