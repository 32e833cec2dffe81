// Two runs side by side: A is the one before, B the one after; a difference is B − A.

// What is better when it grows, worse when it grows, or neither.
const BETTER = { tokens_per_second: 1, prompt_tokens_per_second: 1, generation_per_second: 1, accounted_share: 1, limit_share: 1, wall_s: -1, tick_p50: -1, memory_peak: -1 };

function judged(difference, better) {
  if (!known(difference) || difference === 0 || !better) return "";
  return difference * better > 0 ? "less" : "more";
}

function differenceCells(name, before, after, format, better) {
  const difference = known(before) && known(after) ? after - before : null;
  const kind = judged(difference, better);
  return [
    el("td", {}, figure(`compare.${name}.before`, before, format)),
    el("td", {}, figure(`compare.${name}.after`, after, format)),
    el("td", { class: kind }, figure(`compare.${name}.difference`, difference, signed(format))),
    el("td", { class: kind }, figure(`compare.${name}.change`, ratio(difference, before), signed(percent))),
  ];
}

function comparedFigures(before, after) {
  const later = new Map(after.figures().map((each) => [each[0], each]));
  const rows = before.figures().filter(([name]) => later.has(name)).map(([name, title, value, format]) =>
    el("tr", {}, el("td", { class: "text" }, title), differenceCells(name, value, later.get(name)[2], format, BETTER[name])));
  return differenceTable("The whole", [["", "text"]], rows);
}

function differenceTable(title, first, rows) {
  const titles = [...first, ["A", ""], ["B", ""], ["B − A", ""], ["", ""]];
  return el("div", {}, el("h3", {}, title), scroller(title, el("table", {},
    el("thead", {}, el("tr", {}, titles.map(([text, kind]) => el("th", { class: kind, scope: "col" }, text)))),
    el("tbody", {}, rows))));
}

function secondsBy(run, key, basis) {
  const over = basis === "tick" ? run.ticks.length || null : 1;
  const groups = grouped(run.instructions, key);
  return new Map([...groups].map(([name, each]) => [name, ratio(sum(each.map((one) => one.seconds)), over)]));
}

// A bar to the left for what became less, to the right for what became more.
function differenceBar(difference, most) {
  if (!known(difference)) return el("td", { class: "bar both" });
  const share = most ? (Math.abs(difference) / most) * 50 : 0;
  const left = difference < 0 ? 50 - share : 50;
  const color = difference < 0 ? "var(--less)" : "var(--more)";
  return el("td", { class: "bar both" }, el("i", { style: { left: `calc(7px + ${left}%)`, width: `${share}%`, "--mark": color } }));
}

function comparedGroups(title, kind, runs, basis) {
  const [before, after] = runs.map((run) => secondsBy(run, kind.key, basis));
  const names = [...new Set([...before.keys(), ...after.keys()])].sort(kind.order(before, after));
  const pairsOf = names.map((name) => [name, before.get(name) ?? null, after.get(name) ?? null]);
  const most = Math.max(0, ...pairsOf.map(([, a, b]) => (known(a) && known(b) ? Math.abs(b - a) : 0)));
  const rows = pairsOf.map(([name, a, b]) => {
    const color = kind.color(name);
    return el("tr", {},
      el("td", { class: "text" }, color ? mark(color) : null, kind.title(name)),
      differenceBar(known(a) && known(b) ? b - a : null, most),
      differenceCells(`${kind.name}.${name ?? "none"}`, a, b, seconds, -1));
  });
  return differenceTable(title, [[kind.name, "text"], ["", ""]], rows);
}

const BY_OPCODE = {
  name: "opcode",
  key: (each) => each.opcode,
  color: opcodeColor,
  title: (name) => name,
  order: (before, after) => (a, b) => (after.get(b) ?? before.get(b) ?? 0) - (after.get(a) ?? before.get(a) ?? 0),
};
const BY_LAYER = {
  name: "layer",
  key: (each) => each.layer,
  color: () => null,
  title: (name) => (name === null ? "outside layers" : String(name)),
  order: () => (a, b) => (a ?? Infinity) - (b ?? Infinity),
};

function drawComparison(runs) {
  const [before, after] = runs;
  const body = el("div", {});
  const show = (basis) => body.replaceChildren(el("div", { class: "columns" },
    comparedGroups("By opcode", BY_OPCODE, runs, basis),
    comparedGroups("By layer", BY_LAYER, runs, basis)));
  const kinds = choice("Seconds of", [["all", "All ticks"], ["tick", "A tick"]], "all", show);
  $("comparison").hidden = false;
  $("comparison").replaceChildren(
    heading("Comparison", `A: ${before.title} — B: ${after.title}`, kinds),
    comparedFigures(before, after),
    el("div", { class: "pair" }, body));
  show("all");
}
