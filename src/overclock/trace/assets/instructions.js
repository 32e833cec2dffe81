// The table of instructions, sorted and filtered.

function instructionColumns(run) {
  const of = (key) => (row) => row.each[key];
  return [
    { key: "index", title: "#", value: of("index"), show: whole },
    {
      key: "opcode",
      title: "opcode",
      value: of("opcode"),
      text: true,
      mark: (row) => opcodeColor(row.each.opcode),
    },
    { key: "layer", title: "layer", value: of("layer"), show: whole },
    { key: "text", title: "operands", value: of("text"), text: true, class: "operands" },
    { key: "runs", title: "runs", value: of("runs"), show: whole },
    { key: "seconds", title: "time", value: of("seconds"), show: seconds },
    {
      key: "of_all",
      title: "of all",
      value: (row) => ratio(row.each.seconds, run.execution),
      show: percent,
    },
    {
      key: "each_run",
      title: "a run",
      value: (row) => ratio(row.each.seconds, row.each.runs),
      show: seconds,
    },
    {
      key: "busy",
      title: "busy",
      value: (row) => ratio(row.each.busy_s, row.each.seconds * run.document.machine.threads),
      show: percent,
    },
    {
      key: "operation_rate",
      title: "op/s",
      value: (row) => ratio(row.each.operations, row.each.seconds),
      show: count,
    },
    {
      key: "byte_rate",
      title: "B/s",
      value: (row) => ratio(moved(row.each), row.each.seconds),
      show: count,
    },
    { key: "share", title: "of limit", value: of("share"), show: percent },
    { key: "bound", title: "bound", value: of("bound"), text: true },
    { key: "reason", title: "because", value: of("reason"), text: true },
  ];
}

function drawInstructions(run) {
  const rows = run.instructions.map((each, index) => ({
    each,
    name: `instruction.${each.index}`,
    words: [
      each.index,
      run.places[index],
      each.text,
      `layer ${each.layer};`,
      each.bound,
      each.reason,
    ]
      .join(" ")
      .toLowerCase(),
  }));
  const table = new Sorted(instructionColumns(run), rows, { key: "seconds", up: false });
  const total = el("span", {});
  const say = () => {
    const shown = table.shown;
    const spent = timeOf(shown.map((row) => row.each));
    total.textContent = `${numbers(shown.length, "instruction")}, ${seconds(spent)}`;
  };
  const input = el("input", {
    type: "search",
    placeholder: "matmul layer 3",
    "aria-label": "Only instructions with these words",
    input: () => {
      table.filter(input.value);
      say();
    },
  });
  say();
  $("instructions").replaceChildren(
    heading("Instructions", "Sums over all ticks.", total, input),
    scroller("Instructions", table.element),
  );
}
