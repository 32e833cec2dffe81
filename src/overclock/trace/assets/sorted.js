// A table whose columns sort.

// columns: {key, title, value(row), show(value), text, mark(row), class}. One without `show` shows
// text, one with `text` is set to the left. Rows have the `name` of their figures, and `words`.
class Sorted {
  constructor(columns, rows, order) {
    Object.assign(this, { columns, rows, order, words: "" });
    this.body = el("tbody");
    this.heads = columns.map((column) => this.#head(column));
    this.element = el("table", {}, el("thead", {}, el("tr", {}, this.heads)), this.body);
    this.draw();
  }

  #head(column) {
    const sort = () => {
      const same = this.order.key === column.key;
      this.order = { key: column.key, up: same ? !this.order.up : Boolean(column.text) };
      this.draw();
    };
    return el(
      "th",
      { scope: "col", class: column.text ? "text" : "" },
      el("button", { type: "button", click: sort }, column.title),
    );
  }

  filter(words) {
    this.words = words.toLowerCase();
    this.draw();
  }

  // `layer 3` is one word, and not layer 30.
  get shown() {
    const parts = (this.words.match(/layer \d+(?!\S)|\S+/g) ?? []).map((part) =>
      part.replace(/^(layer \d+)$/, "$1;"),
    );
    return this.rows.filter((row) => parts.every((part) => row.words.includes(part)));
  }

  draw() {
    const { key, up } = this.order;
    const column = this.columns.find((each) => each.key === key);
    this.columns.forEach((each, index) => {
      if (each.key === key)
        this.heads[index].setAttribute("aria-sort", up ? "ascending" : "descending");
      else this.heads[index].removeAttribute("aria-sort");
    });
    const rows = this.shown.sort(
      (a, b) => compared(column.value(a), column.value(b)) * (up ? 1 : -1),
    );
    this.body.replaceChildren(
      ...rows.map((row) =>
        el(
          "tr",
          {},
          this.columns.map((each) => this.#cell(each, row)),
        ),
      ),
    );
  }

  #cell(column, row) {
    const value = column.value(row);
    const text = value === null || value === undefined ? DASH : String(value);
    const inside = column.show ? figure(`${row.name}.${column.key}`, value, column.show) : text;
    const mark_ = column.mark ? mark(column.mark(row)) : null;
    return el(
      "td",
      {
        class: [column.text ? "text" : "", column.class ?? ""].join(" ").trim(),
        title: column.class === "operands" ? text : undefined,
      },
      mark_,
      inside,
    );
  }
}

// What is not known comes last when the largest come first.
function compared(a, b) {
  if (typeof a === "string" || typeof b === "string") return plain(a).localeCompare(plain(b));
  return (a ?? -Infinity) - (b ?? -Infinity) || 0;
}
