// Elements. Text only ever becomes a text node, so no name can be markup.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

function dress(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value);
  }
  return element;
}

function el(tag, attributes = {}, ...children) {
  const element = dress(document.createElement(tag), attributes);
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = dress(document.createElementNS(SVG, tag), attributes);
  element.append(...children.flat());
  return element;
}

// A number that is shown: `data-value` is the number itself.
function figure(name, value, format) {
  return el("span", { "data-figure": name, "data-value": known(value) ? value : "" }, format(value));
}

function heading(title, explanation, ...controls) {
  return el("div", { class: "head" }, el("h2", {}, title), el("p", {}, explanation), ...controls);
}

// Buttons of which one is pressed; `chosen(value)` is called for the others.
function choice(label, options, current, chosen) {
  const buttons = options.map(([value, text]) =>
    el("button", { type: "button", "aria-pressed": value === current, click: () => press(value) }, text));
  function press(value) {
    options.forEach(([each], index) => buttons[index].setAttribute("aria-pressed", each === value));
    chosen(value);
  }
  return el("fieldset", { class: "switch", "aria-label": label }, buttons);
}

function scroller(label, ...children) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, ...children);
}

function mark(color) {
  return el("span", { class: "mark", style: { "--mark": color } });
}

function legend(entries) {
  return el("div", { class: "legend" }, entries.map(([name, color]) => el("span", {}, mark(color), name)));
}

const tip = {
  show(text, x, y) {
    const box = $("tip");
    box.textContent = text;
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    const left = Math.min(x + 14, innerWidth - width - 8);
    const top = y + 18 + height > innerHeight ? y - height - 10 : y + 18;
    box.style.left = `${Math.max(left, 8)}px`;
    box.style.top = `${Math.max(top, 8)}px`;
  },
  hide() {
    $("tip").hidden = true;
  },
};

// Tells `text` about an element to whoever points at it or reaches it by key.
function tells(element, text) {
  const below = () => {
    const box = element.getBoundingClientRect();
    tip.show(text(), box.left, box.bottom - 10);
  };
  return dress(element, {
    pointermove: (event) => tip.show(text(), event.clientX, event.clientY),
    pointerleave: tip.hide,
    focus: () => element.matches(":focus-visible") && below(),
    blur: tip.hide,
  });
}

// Draws now and whenever the room or the theme changes.
const drawings = new Map();
function redrawn(element, draw) {
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (!element.isConnected) {
      observer.disconnect();
      drawings.delete(element);
    } else if (element.clientWidth !== width) {
      width = element.clientWidth;
      draw.call(element, width);
    }
  });
  observer.observe(element);
  drawings.set(element, () => width && draw.call(element, width));
  return element;
}
