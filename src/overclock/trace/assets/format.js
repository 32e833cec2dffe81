// Numbers with units: three digits, and a dash for what is not known.

const NARROW = "\u202f";
const DASH = "–";
const TIMES = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
const SIZES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];

const known = (value) => typeof value === "number" && Number.isFinite(value);

function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95) return value.toFixed(0);
  return value.toFixed(size >= 9.995 ? 1 : 2);
}

function scaled(value, steps, unit) {
  if (!known(value)) return DASH;
  const [step, prefix] = steps.find(([size]) => Math.abs(value) >= size * 0.9995) ?? steps.at(-1);
  const text = step === 1 && unit !== "s" && Number.isInteger(value) ? String(value) : digits(value / step);
  return (text + NARROW + prefix + (steps === TIMES ? "" : unit)).trimEnd();
}

const seconds = (value) => (value === 0 ? `0${NARROW}s` : scaled(value, TIMES, "s"));
const count = (value) => scaled(value, SIZES, "");
const bytes = (value) => scaled(value, SIZES, "B");
const byteRate = (value) => scaled(value, SIZES, "B/s");
const operationRate = (value) => scaled(value, SIZES, "op/s");
const tokenRate = (value) => (known(value) ? `${digits(value)}${NARROW}tokens/s` : DASH);
const whole = (value) => (known(value) ? String(value) : DASH);
const plain = (value) => (value === null || value === undefined ? DASH : String(value));

function percent(value) {
  if (!known(value)) return DASH;
  const hundredth = value * 100;
  const nearWhole = hundredth > 99.9 && hundredth < 100;
  const text = nearWhole ? hundredth.toFixed(2) : hundredth.toFixed(Math.abs(hundredth) >= 99.95 ? 0 : 1);
  return `${text}${NARROW}%`;
}

const signed = (format) => (value) => {
  if (!known(value)) return DASH;
  return value > 0 ? `+${format(value)}` : format(value).replace("-", "−");
};

function numbers(amount, one, many = `${one}s`) {
  return `${amount}${NARROW}${amount === 1 ? one : many}`;
}
