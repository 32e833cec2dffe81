// One colour a kind of work, the same in every drawing.

const STAGES = {
  fetch: "--stage-fetch",
  decode: "--stage-decode",
  execute: "--stage-execute",
  "write back": "--stage-write",
};
const OPCODES = {
  matmul: "--blue",
  gated_matmul: "--sky",
  attend: "--orange",
  attend_all: "--orange",
  rmsnorm: "--green",
  layernorm: "--green",
  normalize: "--green",
  quantize: "--yellow",
  rope: "--pink",
  rope_store: "--pink",
  store: "--pink",
  add: "--red",
  activate: "--red",
  gate: "--red",
  adapt: "--red",
};
const PHASES = { queue: "--stage-decode", prompt: "--orange", generation: "--green" };

const opcodeColor = (opcode) => `var(${Object.hasOwn(OPCODES, opcode) ? OPCODES[opcode] : "--grey"})`;

function colorOf(name) {
  if (Object.hasOwn(OPCODES, name)) return `var(${OPCODES[name]})`;
  return `var(${Object.hasOwn(STAGES, name) ? STAGES[name] : "--inner"})`;
}

// A canvas needs colours that are worked out: `paint("var(--blue)")` is an rgb value.
const painted = new Map();
function paint(color) {
  if (!painted.has(color)) {
    const probe = el("span", { style: { color, display: "none" } });
    document.body.append(probe);
    painted.set(color, getComputedStyle(probe).color);
    probe.remove();
  }
  return painted.get(color);
}

// Black or white, whichever can be read on a colour.
function readableOn(color) {
  const [red, green, blue] = paint(color).match(/[\d.]+/g).map(Number);
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#15171a" : "#ffffff";
}

function isDark() {
  const chosen = document.documentElement.style.colorScheme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themeButton(button) {
  const say = () => (button.textContent = isDark() ? "Light" : "Dark");
  const changed = () => {
    painted.clear();
    say();
    drawings.forEach((draw) => draw());
  };
  button.addEventListener("click", () => {
    document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  say();
}
