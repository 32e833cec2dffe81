// What ran, on what, and what that can do at best.

function pairs(title, rows) {
  return el(
    "div",
    { class: "pairs" },
    el("h3", {}, title),
    el(
      "table",
      {},
      el(
        "tbody",
        {},
        rows.map(([name, value]) =>
          el("tr", {}, el("td", { class: "text" }, name), el("td", {}, value)),
        ),
      ),
    ),
  );
}

function aboutLoad(load) {
  if (!load) return pairs("Loading", [["not part of this trace", ""]]);
  const parts = load.parts.map((part, index) => [
    part.name,
    figure(`load.${index}.seconds`, part.seconds, seconds),
  ]);
  return pairs("Loading", [
    ["all", figure("load.seconds", load.seconds, seconds)],
    ...parts,
    ["read from disk", figure("load.read_bytes", load.read_bytes, bytes)],
    ["major page faults", figure("load.major_faults", load.major_faults, whole)],
  ]);
}

function aboutLimits(limits) {
  if (!limits) return pairs("Limits", [["not measured", ""]]);
  return pairs("Limits", [
    ["f32", figure("limits.f32", limits.f32_gflops * 1e9, operationRate)],
    ["int8", figure("limits.int8", limits.int8_gops * 1e9, operationRate)],
    ["read", figure("limits.read", limits.read_gbs * 1e9, byteRate)],
    ...limits.levels.map((level) => [
      `${level.name}, ${bytes(level.bytes)}`,
      figure(`limits.${level.name}`, level.gbs * 1e9, byteRate),
    ]),
    ["measured", moment(limits.measured)],
  ]);
}

function drawAbout(run) {
  const { model, machine, load, limits, created, overclock } = run.document;
  $("about").replaceChildren(
    heading("The run", ""),
    el(
      "div",
      { class: "columns four" },
      pairs("Model", [
        ["name", model.name],
        ["layers", whole(model.layers)],
        ["vocabulary", whole(model.vocabulary)],
        ["context", whole(model.context)],
        ["weights", bytes(model.weight_bytes)],
        ["exact", model.exact ? "yes" : "no"],
        ["fingerprint", plain(model.fingerprint)],
      ]),
      pairs("Machine", [
        ["name", plain(machine.name)],
        ["instruction set", plain(machine.tier)],
        ["processor", plain(machine.cpu)],
        ["cores", whole(machine.cores)],
        ["threads", whole(machine.threads)],
        ["KV", plain(machine.kv)],
        ["overclock", plain(overclock)],
        ["traced", moment(created)],
      ]),
      aboutLimits(limits),
      aboutLoad(load),
    ),
  );
}
