// The table of requests.

function requestColumns() {
  const of = (key) => (row) => row.each[key];
  const between = (from, to) => (row) =>
    known(row.each[from]) && known(row.each[to]) ? row.each[to] - row.each[from] : null;
  return [
    { key: "index", title: "#", value: (row) => row.index, show: whole },
    { key: "arrived", title: "arrived", value: of("arrived"), show: seconds },
    { key: "queue", title: "queue", value: between("arrived", "admitted"), show: seconds },
    {
      key: "first",
      title: "to first token",
      value: between("arrived", "first_token"),
      show: seconds,
    },
    { key: "whole", title: "whole", value: between("arrived", "ended"), show: seconds },
    { key: "prompt", title: "prompt", value: of("prompt"), show: whole },
    { key: "cached", title: "cached", value: of("cached"), show: whole },
    { key: "tokens", title: "tokens", value: of("tokens"), show: whole },
    {
      key: "rate",
      title: "tokens/s",
      value: (row) => ratio(row.each.tokens - 1 || null, between("first_token", "last_token")(row)),
      show: (value) => (known(value) ? digits(value) : DASH),
    },
    { key: "drafted", title: "guessed", value: of("drafted"), show: whole },
    { key: "accepted", title: "kept", value: of("accepted"), show: whole },
    { key: "finish", title: "ended by", value: of("finish"), text: true },
  ];
}

function drawRequests(run) {
  const rows = run.requests.map((each, index) => ({
    each,
    index,
    name: `request.${index}`,
    words: "",
  }));
  const table = new Sorted(requestColumns(), rows, { key: "index", up: true });
  $("requests").hidden = !rows.length;
  $("requests").replaceChildren(
    heading("Requests", `${numbers(rows.length, "request")}; times count from the arrival.`),
    scroller("Requests", table.element),
  );
}
