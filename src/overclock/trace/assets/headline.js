// The first things to know: how fast, how much of it is explained, what holds it back.

const REASONS = {
  memory: "waits for memory",
  arithmetic: "is bound by arithmetic",
  latency: "is too short: starting and waiting cost more than the work",
  kernel: "unpacks, scales and converts, far from both limits",
  waiting: "has threads that wait for each other",
};

function tile([name, title, value, format, explanation]) {
  return el(
    "div",
    { class: "tile" },
    el("dt", {}, title),
    el("dd", {}, figure(name, value, format), el("small", {}, explanation)),
  );
}

// The reason that most of the time of these instructions has.
function mainReason(instructions) {
  const spent = [...grouped(instructions, (each) => each.reason)];
  return spent.sort(([, a], [, b]) => timeOf(b) - timeOf(a))[0][0];
}

function reasonRow(run, [place, instructions], longest) {
  const spent = timeOf(instructions);
  const attainable = run.document.limits
    ? sum(instructions.map((each) => each.attainable_s ?? 0))
    : null;
  const share = ratio(spent, run.document.wall_s);
  const color = opcodeColor(instructions[0].opcode);
  const bar = el("i", {
    style: { left: "14px", width: `calc((100% - 14px) * ${ratio(spent, longest) ?? 0})` },
  });
  return el(
    "tr",
    {},
    el("td", { class: "text" }, mark(color), place),
    el("td", {}, figure(`why.${place}.share`, share, percent)),
    el("td", { class: "bar", style: { "--mark": color } }, bar),
    el("td", {}, figure(`why.${place}.attainable`, ratio(attainable, spent), percent)),
    el("td", { class: "text" }, REASONS[mainReason(instructions)] ?? DASH),
  );
}

function reasons(run) {
  const places = [...run.byPlace()].slice(0, 6);
  const rows = places.map((group) => reasonRow(run, group, timeOf(places[0][1])));
  if (!rows.length) return el("p", { class: "empty" }, "Nothing ran.");
  const titles = [
    ["Where the time goes", "text"],
    ["of wall", ""],
    ["", ""],
    ["of its limit", ""],
    ["because it", "text"],
  ];
  return scroller(
    "Where the time goes",
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          titles.map(([title, kind]) => el("th", { class: kind, scope: "col" }, title)),
        ),
      ),
      el("tbody", {}, rows),
    ),
  );
}

function drawHeadline(run) {
  $("headline").replaceChildren(
    el("dl", { class: "tiles" }, run.figures().map(tile)),
    reasons(run),
  );
}
