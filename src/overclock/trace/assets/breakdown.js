// The breakdown: the tree of the account as boxes, each as wide as its time; a click makes one the
// whole width. One box is in the tab order, arrows go from box to box.

const ROW = 26;
const THINNEST = 0.0004; // of the width; what is thinner is not drawn

class Breakdown {
  constructor(run) {
    this.run = run;
    this.root = prepared(run.document.tree, null, 0);
    this.focused = this.root;
    this.path = el("p", { class: "detail", "aria-live": "polite" });
    this.boxes = el("div", { class: "icicle" });
    this.element = el("div", {}, this.boxes, this.path);
    redrawn(this.element, () => this.draw());
  }

  zoom(node, keepFocus = false) {
    this.focused = node;
    tip.hide();
    this.draw();
    if (keepFocus) this.button(node)?.focus();
  }

  button(node) {
    return this.boxes.querySelector(`[data-node="${node.id}"]`);
  }

  draw() {
    this.path.textContent = `${this.words(this.focused)}.${this.focused.parent ? " A click on the row above goes back." : ""}`;
    const drawn = [];
    for (let above = this.focused.parent; above; above = above.parent) drawn.push([above, 0, 1]);
    this.#collect(this.focused, 0, 1, drawn);
    const deepest = Math.max(...drawn.map(([node]) => node.depth));
    this.boxes.style.height = `${(deepest + 1) * ROW}px`;
    this.boxes.replaceChildren(...drawn.map(([node, left, width]) => this.#box(node, left, width)));
  }

  #collect(node, left, width, drawn) {
    if (width < THINNEST) return;
    drawn.push([node, left, width]);
    const inside = Math.max(node.seconds, sum(node.children.map((child) => child.seconds)));
    let at = left;
    for (const child of node.children) {
      const wide = inside ? (child.seconds / inside) * width : 0;
      this.#collect(child, at, wide, drawn);
      at += wide;
    }
  }

  #box(node, left, width) {
    const color = node.color;
    const room = width * this.element.clientWidth;
    const button = el("button", {
      type: "button",
      class: room < 16 ? "thin" : "",
      tabindex: node === this.focused ? 0 : -1,
      "data-node": node.id,
      "aria-label": this.words(node),
      style: { left: `${left * 100}%`, width: `${width * 100}%`, top: `${node.depth * ROW}px`, "--mark": color, "--on": readableOn(color) },
      click: () => this.zoom(node, true),
      keydown: (event) => this.#key(event, node),
    }, room < 16 ? "" : this.#label(node, room));
    return tells(button, () => this.words(node));
  }

  #label(node, room) {
    return room > 130 ? `${node.name} · ${seconds(node.seconds)} · ${percent(ratio(node.seconds, this.root.seconds))}` : node.name;
  }

  words(node) {
    const parts = [`${node.trail}: ${seconds(node.seconds)}, ${percent(ratio(node.seconds, this.root.seconds))} of the wall time`];
    if (node.parent && node.parent !== this.root) parts.push(`${percent(ratio(node.seconds, node.parent.seconds))} of ${node.parent.name}`);
    return parts.join(", ");
  }

  #key(event, node) {
    const siblings = node.parent ? node.parent.children : [node];
    const at = siblings.indexOf(node);
    const next = { ArrowUp: node.parent, ArrowDown: node.children[0], ArrowLeft: siblings[at - 1], ArrowRight: siblings[at + 1] };
    if (event.key === "Escape") this.zoom(this.root, true);
    else if (!Object.hasOwn(next, event.key)) return;
    else if (next[event.key]) this.button(next[event.key])?.focus();
    event.preventDefault();
  }
}

// The tree with what the drawing needs: parents, depths, colours and a number for each node.
let nodes = 0;
function prepared(node, parent, depth) {
  const named = Object.hasOwn(OPCODES, node.name) || Object.hasOwn(STAGES, node.name);
  const own = depth === 0 ? "var(--faint)" : colorOf(node.name);
  const inherited = parent && !named && depth > 2 && parent.color !== "var(--stage-execute)" ? parent.color : own;
  const result = { name: node.name, seconds: node.seconds, parent, depth, color: inherited, id: (nodes += 1) };
  result.trail = parent && depth > 1 ? `${parent.trail} › ${node.name}` : node.name;
  result.children = (node.children ?? []).map((child) => prepared(child, result, depth + 1));
  return result;
}

function drawBreakdown(run) {
  const breakdown = new Breakdown(run);
  const reset = el("button", { type: "button", click: () => breakdown.zoom(breakdown.root) }, "All");
  $("breakdown").replaceChildren(
    heading("Breakdown", "The wall time and what it is made of. A click makes a part the whole.", reset),
    breakdown.element);
}
