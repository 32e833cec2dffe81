// How long ticks take: a histogram, and percentiles by what they carried.

const HISTOGRAM = { left: 34, right: 8, top: 10, bottom: 32, height: 200 };

const CARRIED = [
  ["all", "all", () => true, "--accent"],
  ["prompt", "with prompts", (tick) => tick.prompt_tokens > 0, "--orange"],
  ["generation", "generation", (tick) => tick.prompt_tokens === 0 && tick.tokens > 0, "--green"],
];

// Bins of equal ratio: ticks with a prompt may take a hundred times as long as others.
function bins(times, amount) {
  const low = Math.log(times[0]);
  const high = Math.max(Math.log(times.at(-1)), low + 0.02);
  const width = (high - low) / amount;
  return {
    at: (time) => Math.min(Math.max(Math.floor((Math.log(time) - low) / width), 0), amount - 1),
    edge: (bin) => Math.exp(low + bin * width),
    share: (time) => (Math.log(time) - low) / (high - low),
  };
}

function counted(run, scale, amount) {
  const rows = Array.from({ length: amount }, () => [0, 0]);
  run.ticks.forEach((tick, index) => {
    if (run.lengths[index] > 0) rows[scale.at(run.lengths[index])][tick.prompt_tokens > 0 ? 0 : 1] += 1;
  });
  return rows;
}

function histogram(run, width) {
  const times = run.tickTimes().filter((time) => time > 0);
  const amount = Math.max(8, Math.min(48, Math.floor(width / 11)));
  const scale = bins(times, amount);
  const rows = counted(run, scale, amount);
  const most = Math.max(...rows.map(sum));
  const { left, right, top, bottom, height } = HISTOGRAM;
  const wide = (width - left - right) / amount;
  const y = (ticks) => height - bottom - (ticks / most) * (height - top - bottom);
  const bars = rows.flatMap(([prompts, others], bin) => {
    const words = `${seconds(scale.edge(bin))} to ${seconds(scale.edge(bin + 1))}\n${prompts} with prompts, ${others} others`;
    const bar = (from, ticks, color) => tells(svg("rect", { x: left + bin * wide + 0.5, width: Math.max(wide - 1, 1), y: y(from + ticks), height: y(from) - y(from + ticks), style: { fill: `var(${color})` } }), () => words);
    return [others && bar(0, others, "--green"), prompts && bar(others, prompts, "--orange")].filter(Boolean);
  });
  const x = (time) => left + Math.min(scale.share(time), 1) * (width - left - right);
  return svg("svg", { height, role: "img", "aria-label": "Histogram of tick times; the table below has the percentiles." }, histogramAxes(most, y, width), bars, histogramLabels(scale, amount, x, width));
}

function histogramAxes(most, y, width) {
  const step = Math.max(niceStep(most, 4), 1);
  const lines = [];
  for (let ticks = 0; ticks <= most; ticks += step) {
    lines.push(svg("line", { class: "axis", x1: HISTOGRAM.left, x2: width - HISTOGRAM.right, y1: y(ticks), y2: y(ticks) }));
    lines.push(svg("text", { x: HISTOGRAM.left - 5, y: y(ticks) + 4, "text-anchor": "end" }, count(ticks)));
  }
  return lines;
}

function histogramLabels(scale, amount, x, width) {
  const labels = Math.max(2, Math.floor(width / 110));
  return Array.from({ length: labels + 1 }, (_, index) => {
    const time = scale.edge((amount * index) / labels);
    const anchor = index === 0 ? "start" : index === labels ? "end" : "middle";
    return svg("text", { x: x(time), y: HISTOGRAM.height - HISTOGRAM.bottom + 15, "text-anchor": anchor }, seconds(time));
  });
}

function tickRow(run, [name, title, wanted, color]) {
  const times = run.tickTimes(wanted);
  const shares = [["p50", 0.5], ["p95", 0.95], ["p99", 0.99], ["max", 1]];
  return el("tr", {},
    el("td", { class: "text" }, mark(`var(${color})`), title),
    el("td", {}, figure(`ticks.${name}.count`, times.length, whole)),
    shares.map(([key, share]) => el("td", {}, figure(`ticks.${name}.${key}`, percentile(times, share), seconds))));
}

function drawTickStatistics(run) {
  const titles = ["ticks", "number", "p50", "p95", "p99", "longest"];
  $("ticks").replaceChildren(
    heading("Ticks", "How long they take, in bins of equal ratio."),
    run.tickTimes().some((time) => time > 0)
      ? redrawn(el("div", {}), function (width) { this.replaceChildren(histogram(run, width)); })
      : el("p", { class: "empty" }, "There was no tick."),
    scroller("Tick times", el("table", {},
      el("thead", {}, el("tr", {}, titles.map((title, index) => el("th", { class: index ? "" : "text", scope: "col" }, title)))),
      el("tbody", {}, CARRIED.map((kind) => tickRow(run, kind))))));
}
