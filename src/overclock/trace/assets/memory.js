// Memory, KV pages and requests over time: three small charts on one axis of time.

const STRIP = { left: 62, right: 8, top: 20, height: 92, bottom: 6 };

function strips(run) {
  const take = (name) => run.ticks.map((tick) => tick[name]);
  return [
    { title: "In memory", format: bytes, series: [["resident", take("memory"), "--accent"]], filled: false },
    { title: "KV pages", format: count, series: [["used", take("used_pages"), "--blue"], ["cached", take("cached_pages"), "--sky"]], filled: true },
    { title: "Requests", format: count, series: [["running", take("running"), "--green"], ["waiting", take("waiting"), "--orange"]], filled: true },
  ];
}

// Series on top of one another.
function stacked(series) {
  let below = series[0][1].map(() => 0);
  return series.map(([name, values, color]) => {
    const lower = below;
    below = values.map((value, index) => value + lower[index]);
    return { name, color, lower, upper: below };
  });
}

// Values hold from a tick's beginning to the next one's. More than two a pixel are thinned to the
// lowest and highest of them.
function steps(run, values, x, y) {
  const points = [];
  let column = null;
  const flush = () => column && points.push([column.x, column.first], [column.x, column.low], [column.x, column.high], [column.x, column.last]);
  values.forEach((value, index) => {
    const at = Math.round(x(run.ticks[index].start) * 2) / 2;
    if (column?.x !== at) {
      flush();
      column = { x: at, first: column?.last ?? value, low: value, high: value, last: value };
    }
    column.low = Math.min(column.low, value);
    column.high = Math.max(column.high, value);
    column.last = value;
  });
  flush();
  points.push([x(run.end), values.at(-1)]);
  return points.map(([at, value]) => `${at.toFixed(1)},${y(value).toFixed(1)}`);
}

// From zero, unless that would make a line of what matters.
function floorOf(strip, series, most) {
  const least = Math.min(...series.flatMap((each) => each.upper));
  return strip.filled || least < most * 0.7 ? 0 : least - (most - least) * 0.15 - most * 0.002;
}

function stripChart(run, strip, width) {
  const series = stacked(strip.series);
  const most = Math.max(...series.at(-1).upper, 1e-9);
  const least = floorOf(strip, series, most);
  const x = (time) => STRIP.left + (time / run.end) * (width - STRIP.left - STRIP.right);
  const y = (value) => STRIP.height - STRIP.bottom - ((value - least) / (most - least)) * (STRIP.height - STRIP.top - STRIP.bottom);
  const shapes = series.flatMap((each) => stripShapes(run, strip, each, x, y));
  const chart = svg("svg", { height: STRIP.height, role: "img", "aria-label": `${strip.title} over time, at most ${strip.format(most)}` },
    stripAxis(strip, [least, most], y, width), shapes);
  return chart;
}

function stripShapes(run, strip, { lower, upper, color }, x, y) {
  const line = steps(run, upper, x, y);
  if (!strip.filled) return [svg("polyline", { points: line.join(" "), style: { fill: "none", stroke: `var(${color})`, "stroke-width": "1.5" } })];
  const back = steps(run, lower, x, y).reverse();
  return [svg("polygon", { points: [...line, ...back].join(" "), style: { fill: `var(${color})` } })];
}

function stripAxis(strip, values, y, width) {
  const lines = values.map((value) => [
    svg("line", { class: "axis", x1: STRIP.left, x2: width - STRIP.right, y1: y(value), y2: y(value) }),
    svg("text", { x: STRIP.left - 6, y: y(value) + 4, "text-anchor": "end" }, strip.format(value)),
  ]);
  return [...lines.flat(), svg("text", { x: STRIP.left, y: 10 }, strip.title)];
}

function stripWords(run, time) {
  const tick = run.ticks[lastBefore(run.starts, time)];
  return [
    seconds(tick.start),
    `${bytes(tick.memory)} in memory`,
    `KV pages: ${tick.used_pages} used, ${tick.cached_pages} cached`,
    `${tick.running} running, ${tick.waiting} waiting`,
  ].join("\n");
}

function memoryCharts(run, width) {
  const charts = strips(run).map((strip) => stripChart(run, strip, width));
  const axis = svg("svg", { height: 18, "aria-hidden": "true" });
  const room = width - STRIP.left - STRIP.right;
  const step = niceStep(run.end, Math.max(room / 110, 1));
  for (let time = 0; time <= run.end; time += step) {
    const x = STRIP.left + (time / run.end) * room;
    if (x < width - 30) axis.append(svg("text", { x, y: 12, "text-anchor": time ? "middle" : "start" }, axisLabel(time, step)));
  }
  const box = el("div", {}, charts, axis);
  return dress(box, {
    pointermove: (event) => {
      const at = event.clientX - box.getBoundingClientRect().left - STRIP.left;
      if (at >= 0 && at <= room) tip.show(stripWords(run, (at / room) * run.end), event.clientX, event.clientY);
      else tip.hide();
    },
    pointerleave: tip.hide,
  });
}

function drawMemory(run) {
  const colors = strips(run).flatMap((strip) => strip.series.map(([name, , color]) => [name, `var(${color})`]));
  $("memory").replaceChildren(
    heading("Memory", "What the process holds, its KV pages, and for how many requests."),
    run.ticks.length ? redrawn(el("div", {}), function (width) { this.replaceChildren(memoryCharts(run, width)); }) : el("p", { class: "empty" }, "There was no tick."),
    legend(colors));
}
