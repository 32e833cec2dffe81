// The heat map: places in a layer down, layers across.

function cells(run) {
  const rows = new Map();
  for (const [place, instructions] of run.byPlace()) {
    if (instructions.every((each) => each.layer === null)) continue;
    rows.set(place, new Map([...grouped(instructions, (each) => each.layer)].map(([layer, each]) => [layer, heatCell(each)])));
  }
  return rows;
}

function heatCell(instructions) {
  const spent = sum(instructions.map((each) => each.seconds));
  const attainable = instructions.every((each) => known(each.attainable_s)) ? sum(instructions.map((each) => each.attainable_s)) : null;
  return { seconds: spent, share: ratio(attainable, spent), opcode: instructions[0].opcode };
}

function heatRow(place, row, layers, kind, most) {
  const cell = (layer) => {
    const each = row.get(layer);
    if (!each || !known(each[kind])) return el("td", { class: "none" });
    const words = `${place} · layer ${layer}\n${seconds(each.seconds)} · ${percent(each.share)} of its limit`;
    const heat = Math.min(each[kind] / most, 1);
    return tells(el("td", { "data-figure": `layer.${layer}.${place}.${kind}`, "data-value": each[kind], "aria-label": words, style: { "--heat": heat.toFixed(3) } }), () => words);
  };
  const opcode = [...row.values()][0].opcode;
  return el("tr", {}, el("th", { scope: "row" }, mark(opcodeColor(opcode)), place), layers.map(cell));
}

function heatTable(run, kind) {
  const rows = cells(run);
  const layers = [...new Set([...rows.values()].flatMap((row) => [...row.keys()]))].filter((layer) => layer !== null).sort((a, b) => a - b);
  const values = [...rows.values()].flatMap((row) => [...row.values()]).map((each) => each[kind]).filter(known);
  const most = kind === "share" ? 1 : Math.max(...values, 1e-12);
  const every = Math.ceil(layers.length / 32);
  const names = layers.map((layer, index) => el("th", { scope: "col" }, index % every ? "" : String(layer)));
  const format = kind === "share" ? percent : seconds;
  return [
    scroller("Layers", el("table", { class: "heat" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "layer"), names)),
      el("tbody", {}, [...rows].map(([place, row]) => heatRow(place, row, layers, kind, most))))),
    el("p", { class: "note" }, `${format(0)} `, el("span", { class: "ramp" }), ` ${format(most)}`),
  ];
}

function drawLayers(run) {
  const body = el("div", {});
  const show = (kind) => body.replaceChildren(...heatTable(run, kind));
  const kinds = choice("What the colours show", [["seconds", "Time"], ["share", "Share of the limit"]], "seconds", show);
  const layered = run.instructions.some((each) => each.layer !== null);
  $("layers").replaceChildren(
    heading("Layers", "What outliers stand out; what lies outside the layers is left out.", ...(layered && run.document.limits ? [kinds] : [])),
    layered ? body : el("p", { class: "empty" }, "The program has no layers."));
  if (layered) show("seconds");
}
