// The roofline: how fast each instruction is, against how much it computes for each byte it moves.
// S. Williams, A. Waterman, D. Patterson, "Roofline", Communications of the ACM 52(4), 2009.

const ROOF = { left: 48, right: 12, top: 14, bottom: 36, height: 330 };

function dots(run) {
  return run.instructions
    .map((each, index) => ({
      instruction: each,
      place: run.places[index],
      x: ratio(each.operations, moved(each)),
      y: ratio(each.operations, each.seconds),
    }))
    .filter((dot) => dot.x > 0 && dot.y > 0)
    .sort((a, b) => b.instruction.seconds - a.instruction.seconds);
}

function ceilings(limits) {
  if (!limits) return { slopes: [], levels: [] };
  const levels = limits.levels.length ? limits.levels : [{ name: "memory", gbs: limits.read_gbs }];
  return {
    slopes: levels.filter((level) => level.gbs > 0).map((level) => ({ name: `${level.name} ${byteRate(level.gbs * 1e9)}`, rate: level.gbs * 1e9 })),
    levels: [["int8", limits.int8_gops], ["f32", limits.f32_gflops]]
      .filter(([, peak]) => peak > 0)
      .map(([name, peak]) => ({ name: `${name} ${operationRate(peak * 1e9)}`, peak: peak * 1e9 })),
  };
}

// The decades that hold all values.
function decades(values) {
  const logs = values.filter((value) => value > 0).map(Math.log10);
  const low = Math.floor(Math.min(...logs) - 0.05);
  return [low, Math.max(Math.ceil(Math.max(...logs) + 0.1), low + 1)];
}

function logScale([low, high], from, to) {
  return (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
}

function roofScales(points, roofs, width) {
  const peaks = roofs.levels.map((each) => each.peak);
  const xs = decades([...points.map((dot) => dot.x), 0.1, 100]);
  const ys = decades([...points.map((dot) => dot.y), ...(peaks.length ? peaks : [1e9]), 1e8]);
  return {
    xs,
    ys,
    x: logScale(xs, ROOF.left, width - ROOF.right),
    y: logScale(ys, ROOF.height - ROOF.bottom, ROOF.top),
  };
}

function roofAxes({ xs, ys, x, y }, width) {
  const lines = [];
  for (let decade = xs[0]; decade <= xs[1]; decade += 1) {
    const at = x(10 ** decade);
    lines.push(svg("line", { class: "axis", x1: at, x2: at, y1: ROOF.top, y2: ROOF.height - ROOF.bottom }));
    lines.push(svg("text", { x: at, y: ROOF.height - ROOF.bottom + 14, "text-anchor": "middle" }, decade < 0 ? String(+(10 ** decade).toPrecision(1)) : count(10 ** decade)));
  }
  for (let decade = ys[0]; decade <= ys[1]; decade += 1) {
    const at = y(10 ** decade);
    lines.push(svg("line", { class: "axis", x1: ROOF.left, x2: width - ROOF.right, y1: at, y2: at }));
    lines.push(svg("text", { x: ROOF.left - 5, y: at + 4, "text-anchor": "end" }, count(10 ** decade)));
  }
  lines.push(svg("text", { x: (ROOF.left + width) / 2, y: ROOF.height - 6, "text-anchor": "middle" }, "operations for each byte"));
  lines.push(svg("text", { x: 2, y: 9 }, "op/s"));
  return lines;
}

// A slope ends where it meets the highest ceiling, a ceiling begins at the steepest slope.
function roofLines(roofs, scales, width) {
  const top = Math.max(...roofs.levels.map((each) => each.peak), 0) || 10 ** scales.ys[1];
  const fastest = Math.max(...roofs.slopes.map((each) => each.rate), 0);
  const lines = roofs.slopes.flatMap((slope) => slopeLine(slope, top, scales));
  for (const level of roofs.levels) {
    const from = fastest ? Math.max(level.peak / fastest, 10 ** scales.xs[0]) : 10 ** scales.xs[0];
    const y = scales.y(level.peak);
    lines.push(svg("line", { class: "ceiling", x1: scales.x(from), x2: width - ROOF.right, y1: y, y2: y }));
    lines.push(svg("text", { x: width - ROOF.right - 2, y: y - 4, "text-anchor": "end" }, level.name));
  }
  return lines;
}

function slopeLine({ name, rate }, top, { xs, ys, x, y }) {
  const from = Math.max(10 ** xs[0], 10 ** ys[0] / rate);
  const to = Math.min(top / rate, 10 ** xs[1]);
  if (to <= from) return [];
  const [x1, y1, x2, y2] = [x(from), y(from * rate), x(to), y(to * rate)];
  const angle = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
  const words = svg("text", { transform: `translate(${x1 + 6} ${y1 - 8}) rotate(${angle})` }, name);
  return [svg("line", { class: "ceiling", x1, y1, x2, y2 }), words];
}

function dotWords(run, { instruction: each, place, x, y }) {
  const lines = [
    `#${each.index} ${place}${each.layer === null ? "" : ` · layer ${each.layer}`}`,
    `${seconds(each.seconds)}, ${percent(ratio(each.seconds, run.execution))} of all instructions`,
    `${operationRate(y)} · ${digits(x)} operations a byte · ${byteRate(ratio(moved(each), each.seconds))}`,
  ];
  if (known(each.share)) lines.push(`${percent(each.share)} of its limit (${each.bound})`);
  return lines.join("\n");
}

function roofPlot(run, points, width, opcode) {
  const roofs = ceilings(run.document.limits);
  const scales = roofScales(points, roofs, width);
  const most = Math.max(...points.map((dot) => dot.instruction.seconds), 1e-12);
  const circles = points.map((dot) => {
    const own = dot.instruction.opcode;
    const circle = svg("circle", {
      class: opcode === null || opcode === own ? "dot" : "dot dim",
      cx: scales.x(dot.x),
      cy: scales.y(dot.y),
      r: 2.5 + 11 * Math.sqrt(dot.instruction.seconds / most),
      style: { fill: opcodeColor(own) },
    });
    return tells(circle, () => dotWords(run, dot));
  });
  const words = `Roofline of ${numbers(points.length, "instruction")}; the table of instructions has the same figures.`;
  return svg("svg", { height: ROOF.height, role: "img", "aria-label": words }, roofAxes(scales, width), roofLines(roofs, scales, width), circles);
}

function drawRoofline(run) {
  const points = dots(run);
  const plot = el("div", {});
  let chosen = null;
  const draw = (width) => plot.replaceChildren(roofPlot(run, points, width, chosen));
  const left = run.instructions.length - points.length;
  const opcodes = run.opcodes.filter((opcode) => points.some((dot) => dot.instruction.opcode === opcode));
  const keys = opcodes.map((opcode) => {
    const press = () => {
      chosen = chosen === opcode ? null : opcode;
      keys.forEach((key, index) => key.setAttribute("aria-pressed", opcodes[index] === chosen));
      draw(plot.clientWidth);
    };
    return el("button", { type: "button", "aria-pressed": "false", click: press }, mark(opcodeColor(opcode)), opcode);
  });
  $("roofline").replaceChildren(
    heading("Roofline", run.document.limits ? "A dot is an instruction, as large as its time." : "A dot is an instruction. This computer's limits are not known."),
    points.length ? redrawn(plot, draw) : el("p", { class: "empty" }, "Nothing computed."),
    el("div", { class: "legend" }, keys),
    left ? el("p", { class: "note" }, `Not shown: ${numbers(left, "instruction")} that only move bytes or did not run.`) : "");
}
