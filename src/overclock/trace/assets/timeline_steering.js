// Wheel, drag, pinch and keys on a timeline, and the section that holds one or two of them.

const ZOOM = 1.35;

function steer(line) {
  const { canvas, view } = line;
  const held = new Map();
  let travelled = 0;
  const place = (event) => event.clientX - canvas.getBoundingClientRect().left;

  function wheel(event) {
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      event.preventDefault();
      view.pan((event.deltaX || event.deltaY) / line.width);
    } else if (event.ctrlKey || document.activeElement === canvas) {
      event.preventDefault();
      view.zoom(ZOOM ** (Math.sign(event.deltaY)), line.time(place(event)));
    }
  }

  function move(event) {
    const before = held.get(event.pointerId);
    if (before === undefined) {
      const box = canvas.getBoundingClientRect();
      const text = line.tell(event.clientX - box.left, event.clientY - box.top);
      if (text) tip.show(text, event.clientX, event.clientY);
      else tip.hide();
      return;
    }
    const x = place(event);
    travelled += Math.abs(x - before);
    held.set(event.pointerId, x);
    if (held.size === 1) view.pan((before - x) / line.width);
    else pinch(event.pointerId, before, x);
  }

  // Two fingers: what was under them stays under them.
  function pinch(id, before, x) {
    const other = [...held].find(([each]) => each !== id)[1];
    const apart = Math.abs(x - other);
    if (apart > 8) view.zoom(Math.abs(before - other) / apart, line.time(other));
  }

  function release(event) {
    if (held.delete(event.pointerId) && travelled < 4 && event.type === "pointerup") line.select(line.tickAt(place(event)));
    canvas.classList.toggle("held", held.size > 0);
  }

  canvas.addEventListener("wheel", wheel, { passive: false });
  dress(canvas, {
    pointerdown: (event) => {
      travelled = held.size ? Infinity : 0;
      held.set(event.pointerId, place(event));
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("held");
      tip.hide();
    },
    pointermove: move,
    pointerup: release,
    pointercancel: release,
    pointerleave: tip.hide,
    keydown: (event) => steerByKey(line, event),
  });
}

function steerByKey(line, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { view } = line;
  const keys = {
    "+": () => view.zoom(1 / ZOOM),
    "=": () => view.zoom(1 / ZOOM),
    "-": () => view.zoom(ZOOM),
    ArrowUp: () => view.zoom(1 / ZOOM),
    ArrowDown: () => view.zoom(ZOOM),
    ArrowLeft: () => view.pan(-0.2),
    ArrowRight: () => view.pan(0.2),
    PageUp: () => view.pan(-0.9),
    PageDown: () => view.pan(0.9),
    Home: () => view.pan(-view.whole),
    End: () => view.pan(1e9),
    0: () => view.reset(),
    ",": () => line.step(-1),
    ".": () => line.step(1),
    Escape: () => line.select(null),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

function drawTimeline(runs) {
  const view = new Window(Math.max(...runs.map((run) => run.end)));
  const lines = runs.map((run) => new Timeline(run, view));
  const button = (text, name, action) => el("button", { type: "button", "aria-label": name, title: name, click: action }, text);
  const shown = el("span", {});
  view.watchers.push(() => (shown.textContent = `${seconds(view.end - view.start)} of ${seconds(view.whole)}`));
  const controls = el("div", { class: "controls" }, shown, el("div", { class: "switch" },
    button("←", "Earlier", () => view.pan(-0.5)),
    button("→", "Later", () => view.pan(0.5)),
    button("−", "Zoom out", () => view.zoom(2)),
    button("+", "Zoom in", () => view.zoom(0.5)),
    button("All", "Show all", () => view.reset())));
  const opcodes = [...new Set(runs.flatMap((run) => run.opcodes))];
  $("timeline").replaceChildren(
    heading("Timeline", "Wheel zooms after a click, drag moves; keys: + − ← → , . 0", controls),
    ...lines.map((line, index) => (runs.length > 1 ? el("div", { class: index ? "pair" : "" }, el("h3", {}, `${line.run.name}: ${line.run.title}`), line.element) : line.element)),
    legend([...Object.entries(PHASES).map(([name, color]) => [name, `var(${color})`]), ...Object.entries(STAGES).map(([name, color]) => [name, `var(${color})`]), ...opcodes.map((opcode) => [opcode, opcodeColor(opcode)])]));
  view.reset();
}
